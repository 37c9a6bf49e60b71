package model

func (w *world) addAttempt(a attempt) {
	for i := range w.attempts {
		if w.attempts[i].stage == noAttempt {
			w.attempts[i] = a
			return
		}
	}
}

// full: the model follows no more attempts.
func (w *world) full() bool { return w.attempts[maxAttempts-1].stage != noAttempt }

func (m *model) delivery(w *world) {
	for x := uint8(0); x < nobody; x++ {
		if w.acts(x) && w.nodes[x].lease > 0 && !w.full() {
			m.claim(w, x)
			m.start(w, x)
		}
	}
	for i := range w.attempts {
		m.carry(w, uint8(i))
	}
}

// claim: the owner claims what is due, one proposal at a time.
func (m *model) claim(w *world, x uint8) {
	n := &w.nodes[x]
	if n.has(claimed) || n.has(released) {
		return
	}
	due, found := m.least(w, x, n.applied, func(f *facts) bool {
		return f.owner == x && f.pending && f.claim.inc == 0 && f.members[x].inc == n.inc
	})
	if !found {
		return
	}
	next := *w
	next.nodes[x].applied = due
	next.add(x, proposal{kind: claimed, claim: ref{node: x, inc: n.inc, number: n.number}})
	next.nodes[x].number++
	m.emit(opClaim, x, 0, next)
}

// start begins the attempt of a claim that holds.
func (m *model) start(w *world, x uint8) {
	n, end := &w.nodes[x], m.logs.end(w.log).index
	for i := range w.attempts {
		if a := w.attempts[i]; a.stage == granted && a.claim.node == x {
			m.startAt(w, x, n.applied, end, func(next *world) uint8 {
				next.attempts[i].stage = running
				return uint8(i)
			})
		}
	}
	if m.without == ruleFromApply {
		return
	}
	for _, entry := range m.logs.nodes[w.log].path[1:] {
		f := m.logs.end(entry)
		claim := f.entry.claim
		mine := f.entry.kind == claimed && f.claim == claim && claim.node == x && claim.inc == n.inc
		if !mine || w.attemptOf(claim) != nil {
			continue
		}
		from, to := max(f.index, n.applied), end
		if m.without != ruleClaimChecked {
			if m.logs.at(w.log, from).claim != claim {
				continue
			}
			to = from
		}
		m.startAt(w, x, from, to, func(next *world) uint8 {
			next.addAttempt(attempt{claim: claim, at: f.index, stage: running})
			return uint8(next.count() - 1)
		})
		return
	}
}

// startAt starts an attempt on a node that has applied from so much to so much.
func (m *model) startAt(w *world, x, from, to uint8, start func(*world) uint8) {
	for n := from; n <= to; n++ {
		next := *w
		next.nodes[x].applied = n
		m.emit(opStart, x, start(&next), next)
	}
}

func (w *world) count() int {
	n := 0
	for n < maxAttempts && w.attempts[n].stage != noAttempt {
		n++
	}
	return n
}

// mayDot is asked right before the final dot.
func (m *model) mayDot(w *world, a *attempt) bool {
	x := a.claim.node
	leased := w.acts(x) && w.nodes[x].lease > 0
	switch m.without {
	case ruleDotChecked:
		return w.running(x)
	case ruleClaimChecked:
		return leased
	}
	return leased && m.seen(w, x).claim == a.claim
}

func (m *model) carry(w *world, i uint8) {
	a := w.attempts[i]
	x := a.claim.node
	switch {
	case a.stage == running && !a.orphan:
		if m.mayDot(w, &a) {
			m.emit(opDot, x, i, w.staged(i, dotted))
		}
		if w.running(x) {
			m.giveUp(w, i)
		}
	case a.stage == dotted && a.orphan:
		m.emit(opTake, x, i, w.staged(i, told))
	case a.stage == dotted:
		m.emit(opTake, x, i, w.staged(i, took))
		if w.left.hiccups == 0 {
			return
		}
		next := w.staged(i, refused)
		next.left.hiccups--
		m.fault(opRefuse, x, i, next)
		if w.running(x) {
			m.lose(w, i, opLoseTaken, told)
			m.lose(w, i, opLose, ended)
		}
	case a.stage == took && !a.orphan && w.running(x):
		next := w.staged(i, told)
		next.add(x, proposal{kind: delivered, claim: a.claim})
		m.emit(opReply, x, i, next)
	case a.stage == refused && !a.orphan && w.running(x):
		next := w.staged(i, ended)
		next.add(x, proposal{kind: failed, claim: a.claim})
		m.emit(opReply, x, i, next)
	}
}

func (w *world) staged(i uint8, s stage) world {
	next := *w
	next.attempts[i].stage = s
	return next
}

// giveUp resets the connection of an attempt that may not go on. Where its
// claim still stands it is given back.
func (m *model) giveUp(w *world, i uint8) {
	a := w.attempts[i]
	x := a.claim.node
	next := w.staged(i, ended)
	if n, over := m.least(w, x, w.nodes[x].applied, func(f *facts) bool { return f.claim != a.claim }); over {
		next.nodes[x].applied = n
		m.emit(opGiveUp, x, i, next)
		return
	}
	if w.left.hiccups > 0 && w.nodes[x].lease == 0 && w.acts(x) {
		next.left.hiccups--
		next.add(x, proposal{kind: released, claim: a.claim})
		m.fault(opGiveUp, x, i, next)
	}
}

// lose: the connection breaks after the final dot.
func (m *model) lose(w *world, i uint8, o op, s stage) {
	next := w.staged(i, s)
	next.left.hiccups--
	next.add(w.attempts[i].claim.node, proposal{kind: doubted, claim: w.attempts[i].claim})
	m.fault(o, w.attempts[i].claim.node, i, next)
}
