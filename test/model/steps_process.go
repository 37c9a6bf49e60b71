package model

func (m *model) processes(w *world) {
	for x := uint8(0); x < nobody; x++ {
		n := &w.nodes[x]
		m.stop(w, x)
		if n.phase == paused {
			next := *w
			next.nodes[x].phase, next.nodes[x].resumes = n.resumes, 0
			if w.leader == x {
				next.unheard = [2]uint8{} // pings came that nobody read
			}
			m.emit(opResume, x, 0, next)
			continue
		}
		ended, over := m.least(w, x, n.applied, func(f *facts) bool {
			return f.members[x] != member{inc: n.inc, active: true}
		})
		if w.acts(x) && over {
			next := *w
			next.nodes[x].applied = ended
			m.endSession(&next, x)
			m.emit(opEnd, x, 0, next)
		}
		if n.phase == starting && !n.has(cameUp) && w.leads() {
			m.comeUp(w, x)
		}
	}
}

// comeUp: everything up to the leader's commit index is applied, then a new
// incarnation is proposed.
func (m *model) comeUp(w *world, x uint8) {
	next := *w
	n := &next.nodes[x]
	n.applied = m.logs.end(w.log).index
	n.last++
	next.add(x, proposal{kind: cameUp, inc: n.last, sequence: 1, lowest: 1, replaces: m.logs.end(w.log).members[x].inc})
	m.emit(opComeUp, x, 0, next)
}

// stop pauses a process or kills it; one that was killed is started again.
func (m *model) stop(w *world, x uint8) {
	n := &w.nodes[x]
	if n.phase == paused || w.client == silent || w.leader != x && !m.atStake(w, x) {
		return
	}
	if w.left.pauses > 0 {
		next := *w
		next.left.pauses--
		next.nodes[x].phase, next.nodes[x].resumes = paused, n.phase
		m.fault(opPause, x, 0, next)
	}
	if w.left.kills == 0 || w.leader == x && w.left.elections == 0 {
		return // nobody could lead
	}
	next := *w
	next.left.kills--
	m.kill(&next, x)
	if m.without != ruleCatchUp {
		m.fault(opRestart, x, 0, next)
		return
	}
	if n.phase != up {
		return
	}
	for applied := uint8(0); applied <= n.applied; applied++ {
		behind := next
		r := &behind.nodes[x]
		r.phase, r.applied, r.inc = up, applied, m.logs.at(w.log, applied).members[x].inc
		r.next, r.number = n.next, n.number
		m.fault(opRestart, x, applied, behind)
	}
}

// kill takes away all that was in memory, and the connections.
func (m *model) kill(w *world, x uint8) {
	n := &w.nodes[x]
	if w.client == waiting && m.scope.acceptor == x {
		w.client = hungUp
	}
	w.abortLost = w.abortLost || n.has(aborted)
	*n = node{phase: starting, last: n.last}
	for i := range w.attempts {
		a := &w.attempts[i]
		if a.stage == noAttempt || a.claim.node != x {
			continue
		}
		a.orphan = true
		switch a.stage {
		case granted, running, refused:
			a.stage = ended
		case took:
			a.stage = told
		}
	}
	if w.leader == x {
		w.leader, w.ready = nobody, false
		w.unheard, w.condemned = [2]uint8{}, [2]uint8{}
	}
	if w.verdict.kind != none && w.judge == x {
		w.verdict, w.judge = entry{}, 0
	}
	if w.deposed == x {
		w.deposed = nobody
	}
}

// endSession: the cluster counts the incarnation of x as gone. What is open
// comes to its end, or goes on with the next incarnation.
func (m *model) endSession(w *world, x uint8) {
	n := &w.nodes[x]
	old := n.open
	n.open = [maxProposals]proposal{}
	n.phase, n.inc, n.lease, n.ping, n.age = starting, 0, 0, noPing, 0
	n.next, n.number = 0, 0
	abort := false
	for _, p := range old {
		switch {
		case p.kind == accepted && w.client == waiting:
			w.client = got451
			abort = true
		case p.kind == aborted:
			abort = true
		case isOutcome(p.kind):
			w.add(x, proposal{kind: p.kind, claim: p.claim})
		case p.kind == claimed && p.flying && m.without == ruleFromApply:
			w.add(x, p) // its answer will come
		}
	}
	if abort && m.without != ruleAbortPursued {
		w.add(x, proposal{kind: aborted})
	}
	for i := range w.attempts {
		if a := &w.attempts[i]; a.claim.node == x && !a.orphan && a.stage == running && m.without != ruleDotChecked {
			a.stage = ended
		}
	}
}
