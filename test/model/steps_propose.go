package model

import pb "holdfast/proto/holdfast/v1"

func (m *model) proposals(w *world) {
	for x := uint8(0); x < nobody; x++ {
		if !w.running(x) {
			continue
		}
		for i := range w.nodes[x].open {
			switch p := &w.nodes[x].open[i]; {
			case p.kind == none:
			case !p.flying:
				m.submit(w, x, i)
			case p.at > 0 && w.running(w.leader):
				m.learn(w, x, i)
			}
		}
	}
}

// submit sends a proposal to the leader, for the first time or again.
func (m *model) submit(w *world, x uint8, i int) {
	n := &w.nodes[x]
	p := n.open[i]
	late := p.inc != 0 && p.inc != n.inc && p.kind != cameUp
	if !w.running(w.leader) || w.deposed == x || late || p.kind != cameUp && !w.acts(x) {
		return
	}
	next := *w
	after := &next.nodes[x]
	if p.kind != cameUp {
		if p.sequence == 0 || m.without == ruleSameSequence {
			p.sequence = after.next
			after.next++
		}
		p.inc = n.inc
		after.open[i] = p
		p.lowest = after.lowestOpen()
	}
	p.flying = true
	after.open[i] = p
	e := entry{
		kind: p.kind, node: x, inc: p.inc, sequence: p.sequence, lowest: p.lowest,
		claim: p.claim, replaces: p.replaces, term: w.term,
	}
	if m.take(&next, e) {
		m.emit(opSubmit, x, uint8(i), next)
	}
}

// learn: the answer to a proposal comes in.
func (m *model) learn(w *world, x uint8, i int) {
	n := &w.nodes[x]
	p := n.open[i]
	result := m.logs.at(w.log, p.at).result
	ok := result == pb.EventResult_CODE_OK
	next := *w
	after := &next.nodes[x]
	next.nodes[w.leader].applied = max(next.nodes[w.leader].applied, p.at)
	if p.kind == cameUp && ok || p.kind == claimed && m.without != ruleFromApply {
		after.applied = max(after.applied, p.at)
	}
	if result == pb.EventResult_CODE_NOT_ACTIVE && p.kind != cameUp {
		if p.inc != n.inc {
			after.remove(i)
		} else {
			m.endSession(&next, x)
		}
		m.emit(opLearn, x, uint8(i), next)
		return
	}
	after.remove(i)
	switch p.kind {
	case accepted:
		if w.client == waiting {
			next.client = got451
			if ok {
				next.client = got250
			}
		}
	case claimed:
		if ok && m.without == ruleFromApply {
			next.addAttempt(attempt{claim: p.claim, at: p.at, stage: granted})
		}
	case cameUp:
		if ok {
			after.phase, after.inc, after.next, after.number = up, p.inc, 2, 1
		}
	}
	m.emit(opLearn, x, uint8(i), next)
}

// frontDoor is the session of the one message.
func (m *model) frontDoor(w *world) {
	x := m.scope.acceptor
	n := &w.nodes[x]
	if w.client == silent && w.acts(x) && n.lease > 0 {
		next := *w
		next.client = waiting
		next.add(x, proposal{kind: accepted})
		m.emit(opArrive, x, 0, next)
	}
	if w.client != waiting || !w.running(x) {
		return
	}
	for i := range n.open {
		if p := &n.open[i]; p.kind == accepted && p.flying && m.without == rule250AfterCommit {
			next := *w
			next.client = got250
			m.emit(opEarly, x, 0, next)
		}
	}
	if w.left.deadlines == 0 {
		return
	}
	next := *w
	next.left.deadlines--
	next.client = got451
	if m.without != ruleWithdrawn {
		next.nodes[x].withdraw()
	}
	next.add(x, proposal{kind: aborted})
	m.fault(opDeadline, x, 0, next)
}

// withdraw takes back an acceptance that was never sent: it has no sequence
// yet, and would get one behind that of its abort.
func (n *node) withdraw() {
	for i := range n.open {
		if p := &n.open[i]; p.kind == accepted && p.sequence == 0 {
			n.remove(i)
			return
		}
	}
}
