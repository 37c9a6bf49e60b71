package model

import (
	"slices"

	pb "holdfast/proto/holdfast/v1"
)

func (m *model) leadership(w *world) {
	m.decide(w)
	m.elect(w)
	if !w.running(w.leader) {
		return
	}
	if !w.ready && w.inherited == 0 {
		next := *w
		next.nodes[w.leader].applied = m.logs.end(w.log).index
		next.ready = true
		m.emit(opReady, w.leader, 0, next)
	}
	if w.queued[0].kind != none {
		next := *w
		copy(next.queued[:], next.queued[1:])
		next.queued[maxQueued-1] = entry{}
		if next.inherited > 0 {
			next.inherited--
		}
		m.commit(&next, w.queued[0])
		m.emit(opCommit, w.leader, 0, next)
	}
	if w.deposed != nobody && w.running(w.deposed) {
		next := *w
		next.deposed = nobody
		m.emit(opLearnDeposed, w.deposed, 0, next)
	}
}

// decide: the leader declares down whom it hasn't heard for long enough.
func (m *model) decide(w *world) {
	for x := uint8(0); x < nobody && w.leads(); x++ {
		if w.unheard[x] < m.silence() || w.left.downs == 0 || w.verdict.kind != none || !m.atStake(w, x) {
			continue
		}
		n, found := m.least(w, w.leader, w.nodes[w.leader].applied, func(f *facts) bool {
			return f.members[x].active && f.members[x].inc != w.condemned[x]
		})
		if !found {
			continue
		}
		record := m.logs.at(w.log, n).members[x]
		next := *w
		next.nodes[w.leader].applied = n
		next.left.downs--
		next.condemned[x] = record.inc
		next.verdict = entry{kind: wentDown, node: x, inc: record.inc, saw: w.term}
		next.judge = w.leader
		next.unheard = [2]uint8{}
		m.fault(opDecide, x, 0, next)
	}
	// Whoever decided it may propose it late, when another one leads or itself
	// again: the model lets it get there.
	if w.verdict.kind != none && w.running(w.judge) && w.running(w.leader) {
		next := *w
		e := w.verdict
		e.term = w.term
		next.verdict, next.judge = entry{}, 0
		if m.take(&next, e) {
			m.emit(opJudge, w.judge, 0, next)
		}
	}
}

// elect: what the old leader hadn't committed is kept up to some entry. Its
// proposers don't learn which, and propose again.
func (m *model) elect(w *world) {
	if w.left.elections == 0 || w.client == silent {
		return
	}
	queued := uint8(0)
	for queued < maxQueued && w.queued[queued].kind != none {
		queued++
	}
	for y := uint8(0); y < nobody; y++ {
		if y == w.leader || !w.running(y) {
			continue
		}
		for kept := uint8(0); kept <= queued; kept++ {
			next := m.elected(*w, y, kept)
			if w.leader == nobody {
				m.emit(opElect, y, kept, next)
			} else {
				m.fault(opElect, y, kept, next)
			}
		}
	}
}

func (m *model) elected(w world, leader, kept uint8) world {
	w.left.elections--
	if m.without == ruleVerifyLeader {
		w.deposed = w.leader
	}
	w.term, w.leader, w.inherited = w.term+1, leader, kept
	w.ready = m.without == ruleBarrier
	clear(w.queued[kept:])
	w.condemned = [2]uint8{}
	w.unheard = [2]uint8{}
	if m.without == ruleNewLeaderWaits && w.left.downs > 0 {
		w.unheard = [2]uint8{m.silence(), m.silence()}
	}
	for x := range w.nodes {
		n := &w.nodes[x]
		if n.ping == sent || n.ping == heard {
			n.ping, n.age = noPing, 0
		}
		for i := range n.open {
			n.open[i].flying, n.open[i].at = false, 0
		}
	}
	return w
}

// take puts an entry into the leader's log. Where no other leader can come, it
// is committed at once: that it may take time changes nothing then.
func (m *model) take(w *world, e entry) bool {
	if w.left.elections == 0 && w.queued[0].kind == none {
		m.commit(w, e)
		return true
	}
	free := slices.IndexFunc(w.queued[:], func(q entry) bool { return q.kind == none })
	if free < 0 {
		return false
	}
	w.queued[free] = e
	return true
}

// commit folds an entry, and leaves its index with its proposal.
func (m *model) commit(w *world, e entry) {
	log, err := m.logs.with(w.log, e)
	if err != nil {
		m.err = err
		return
	}
	w.log = log
	if e.kind == wentDown {
		return
	}
	n := &w.nodes[e.node]
	for i := range n.open {
		p := &n.open[i]
		if p.flying && p.at == 0 && p.kind == e.kind && p.inc == e.inc && p.sequence == e.sequence {
			p.at = m.logs.end(log).index
			if m.forgets(w, p.kind) && m.logs.end(log).result != pb.EventResult_CODE_NOT_ACTIVE {
				n.remove(i)
			}
			return
		}
	}
}

// forgets: nothing depends on when the answer to such a proposal comes, unless
// it might have to be proposed again.
func (m *model) forgets(w *world, k kind) bool {
	return !m.scope.fine && w.left.elections == 0 && (isOutcome(k) || k == aborted)
}
