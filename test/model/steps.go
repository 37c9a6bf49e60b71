package model

// op is what a step does.
type op uint8

const (
	opNone op = iota
	opTick
	opSend
	opHear
	opAnswer
	opReceive
	opRound
	opLearnDeposed
	opDecide
	opJudge
	opElect
	opReady
	opCommit
	opPause
	opRestart
	opResume
	opEnd
	opComeUp
	opSubmit
	opLearn
	opArrive
	opEarly
	opDeadline
	opClaim
	opStart
	opDot
	opGiveUp
	opTake
	opRefuse
	opLoseTaken
	opLose
	opReply
)

// step is one step of a schedule: x is the node, y says which of its things.
type step struct {
	op   op
	x, y uint8
	// fault: it needn't ever happen.
	fault bool
}

// model knows the steps of one scope, with one rule taken out or none.
type model struct {
	scope   scope
	without Rule
	logs    *logs
	err     error // the state machine's
	visit   func(step, world)
}

func (m *model) begin() world {
	w := world{term: 1, leader: m.scope.leader, ready: true, deposed: nobody, left: m.scope.faults}
	for x := range w.nodes {
		// The scene's own events have lower sequences.
		w.nodes[x] = node{phase: up, inc: 1, last: 1, next: firstSequence, number: 1}
	}
	if m.scope.taken {
		n := &w.nodes[m.scope.acceptor]
		m.commit(&w, entry{kind: accepted, node: m.scope.acceptor, inc: n.inc, sequence: n.next, lowest: n.next, term: w.term})
		n.next++
		w.client = got250
	}
	return w
}

// successors visits every world that one step leads to, always in the same order.
func (m *model) successors(w *world, visit func(step, world)) error {
	m.visit = visit
	m.time(w)
	m.pings(w)
	m.leadership(w)
	m.processes(w)
	m.proposals(w)
	m.frontDoor(w)
	m.delivery(w)
	return m.err
}

func (m *model) emit(o op, x, y uint8, w world) {
	m.forget(&w)
	m.visit(step{op: o, x: x, y: y}, w)
}

func (m *model) fault(o op, x, y uint8, w world) {
	m.forget(&w)
	m.visit(step{op: o, x: x, y: y, fault: true}, w)
}

// forget drops what nothing will depend on, so that more worlds are equal: of
// attempts that are over, by which process they were and under which claim.
func (m *model) forget(w *world) {
	for i := range w.attempts {
		a := &w.attempts[i]
		if a.stage != told && a.stage != ended {
			continue
		}
		n := &w.nodes[a.claim.node]
		if a.claim.inc != n.inc && m.without != ruleCatchUp && n.phase == up || a.orphan && m.without != ruleCatchUp {
			a.orphan = true
			if a.stage == ended {
				*a = attempt{stage: ended, orphan: true}
			}
		}
	}
	if w.left.downs == 0 {
		w.unheard = [2]uint8{}
	}
}

// running: the process of x does what it does. Raft goes on in it while the
// rest is still starting.
func (w *world) running(x uint8) bool { return x != nobody && w.nodes[x].phase != paused }

// acts: x has an active incarnation, as far as it knows.
func (w *world) acts(x uint8) bool { return w.nodes[x].phase == up && w.nodes[x].inc != 0 }

// leads: there is a leader that runs and is past its barrier.
func (w *world) leads() bool { return w.running(w.leader) && w.ready }

// seen are the facts of the state on x.
func (m *model) seen(w *world, x uint8) *facts { return m.logs.at(w.log, w.nodes[x].applied) }

// silence is how long the leader waits for a ping, in ticks.
func (m *model) silence() uint8 {
	if m.without == ruleMargin {
		return leaseTicks
	}
	return leaseTicks + marginTicks
}

func (m *model) time(w *world) {
	if next := m.tick(*w, nobody); next != *w {
		m.emit(opTick, nobody, 0, next)
	}
	for x := uint8(0); x < nobody; x++ {
		if w.left.drifts > 0 && w.nodes[x].lease > 0 {
			next := m.tick(*w, x)
			next.left.drifts--
			m.fault(opTick, x, 0, next)
		}
	}
}

// tick lets time pass, except on the clock of the node that is slow.
func (m *model) tick(w world, slow uint8) world {
	for x := range w.nodes {
		n := &w.nodes[x]
		stands := m.without == ruleBootTime && n.phase == paused
		if n.lease > 0 && uint8(x) != slow && !stands {
			n.lease--
		}
		if n.ping == noPing {
			continue
		}
		n.age++
		limit := uint8(leaseTicks) // an answer to it would grant nothing any more
		if m.without == ruleLeaseFromSending {
			limit = lateTicks + 1
		}
		if n.age >= limit {
			n.ping, n.age = noPing, 0
		}
	}
	if w.leads() && w.left.downs > 0 {
		for x := range w.unheard {
			w.unheard[x] = min(w.unheard[x]+1, m.silence())
		}
	}
	return w
}

func (m *model) pings(w *world) {
	for x := uint8(0); x < nobody; x++ {
		n := &w.nodes[x]
		// One that is sent while a lease lasts would last no longer here, and one
		// that is sent without a need for a lease serves as well later.
		asks := w.acts(x) && n.ping == noPing && n.lease == 0 && w.leader != nobody && m.needsLease(w, x)
		switch {
		case asks && !m.scope.fine && m.without != ruleLeaseFromSending:
			m.round(w, x)
		case asks:
			next := *w
			next.nodes[x].ping = sent
			m.emit(opSend, x, 0, next)
		case n.ping == sent && w.deposed == x && w.acts(x):
			next := *w
			next.nodes[x].ping = answered // by itself
			m.emit(opHear, x, x, next)
		case n.ping == sent && w.deposed != x && w.leads():
			next := *w
			next.nodes[x].ping = heard
			if w.condemned[x] != n.inc {
				next.unheard[x] = 0
			}
			m.emit(opHear, x, w.leader, next)
		case n.ping == heard && w.leads():
			next := *w
			if m.grants(&next, x) {
				next.nodes[x].ping = answered
				m.emit(opAnswer, x, 1, next)
			} else {
				next.nodes[x].ping, next.nodes[x].age = noPing, 0
				m.emit(opAnswer, x, 0, next)
			}
		case n.ping == answered && w.acts(x):
			next := *w
			left := leaseTicks - min(n.age, leaseTicks)
			if m.without == ruleLeaseFromSending {
				left = leaseTicks
			}
			next.nodes[x].lease = max(n.lease, left)
			next.nodes[x].ping, next.nodes[x].age = noPing, 0
			m.emit(opReceive, x, 0, next)
		}
	}
}

// round is a ping from its sending to its answer, all within one tick.
func (m *model) round(w *world, x uint8) {
	next := *w
	next.nodes[x].lease = leaseTicks
	if w.deposed == x {
		m.emit(opRound, x, x, next)
		return
	}
	if w.leads() && m.grants(&next, x) {
		next.unheard[x] = 0
		m.emit(opRound, x, w.leader, next)
	}
}

// grants: a leader that has just proved that it is one gives x a lease.
func (m *model) grants(w *world, x uint8) bool {
	inc := w.nodes[x].inc
	n, active := m.least(w, w.leader, w.nodes[w.leader].applied, func(f *facts) bool {
		return f.members[x] == member{inc: inc, active: true}
	})
	if !active || w.condemned[x] == inc && m.without != ruleNoGrantAfterDown {
		return false
	}
	w.nodes[w.leader].applied = n
	return true
}

// needsLease: there is something that x could do with a lease.
func (m *model) needsLease(w *world, x uint8) bool {
	if w.client == silent {
		return x == m.scope.acceptor
	}
	for i := range w.attempts {
		if a := &w.attempts[i]; a.claim.node == x && !a.orphan && (a.stage == running || a.stage == granted) {
			return true
		}
	}
	_, needs := m.least(w, x, w.nodes[x].applied, func(f *facts) bool {
		return f.pending && (f.owner == x && f.claim.inc == 0 || f.claim.inc != 0 && f.claim.node == x)
	})
	return needs
}

// least is the shortest log, from n entries on, of which something holds. A node
// applies entries at any time, and that alone has no effect: it is enough to
// suppose that it has applied no more than it must have for what it does.
func (m *model) least(w *world, x, n uint8, holds func(*facts) bool) (uint8, bool) {
	for end := m.logs.end(w.log).index; n <= end; n++ {
		if holds(m.logs.at(w.log, n)) {
			return n, true
		}
	}
	return 0, false
}

// atStake: a fault of x is worth following. Before the message came, and on a
// node that has nothing to do with it, it only renames what follows.
func (m *model) atStake(w *world, x uint8) bool {
	if w.client == silent {
		return false
	}
	for i := range w.attempts {
		if a := &w.attempts[i]; a.claim.node == x && !a.orphan && a.stage != noAttempt && a.stage != ended {
			return true
		}
	}
	return w.nodes[x].open[0].kind != none || m.needsLease(w, x)
}
