package model

import pb "holdfast/proto/holdfast/v1"

// naive turns an entry into the event that the state machine gets. With all
// rules it is the entry's own. Where a rule of the state machine is taken out,
// it is an event with which the real apply functions do what naive ones would.
func (l *logs) naive(s space, id logID, e entry, f *facts) (*pb.Event, []byte) {
	before := l.nodes[id].facts
	live := before.claim
	switch {
	case l.without == ruleTerm && e.kind == wentDown:
		e.saw = e.term
	case l.without == ruleTombstone && e.kind == aborted && !before.exists,
		l.without == ruleDeliveredCounts && e.kind == delivered && e.claim != live,
		l.without == ruleDeliveredLate && e.kind == delivered && before.members[e.node] != member{inc: e.inc, active: true}:
		return s.nothing(e), nil
	case l.without == ruleStaleFailure && e.kind == failed && live != (ref{}):
		e.claim = live
	case l.without == ruleIncarnationInClaims && live.node == e.claim.node && live.number == e.claim.number && isOutcome(e.kind):
		e.claim = live
	case l.without == ruleSessions && e.kind != cameUp && l.repeats(id, e):
		e.sequence, e.lowest = aliasOffset+f.index, 0
	case l.without == ruleRevokeAtUp:
		if e.kind == cameUp && before.members[e.node].active && e.inc != before.members[e.node].inc {
			f.alias[e.node] = alias{inc: e.inc, base: before.members[e.node].inc}
			e.inc, e.sequence, e.lowest = before.members[e.node].inc, aliasOffset, 0
			return s.nothing(e), nil
		}
		e = f.aliased(e)
	}
	return s.event(e)
}

func isOutcome(k kind) bool {
	return k == delivered || k == failed || k == released || k == doubted
}

// repeats reports whether the log has the event already.
func (l *logs) repeats(id logID, e entry) bool {
	for _, step := range l.nodes[id].path {
		old := l.nodes[step].facts.entry
		if old.kind == e.kind && old.node == e.node && old.inc == e.inc && old.sequence == e.sequence {
			return true
		}
	}
	return false
}

// aliased is an entry in the terms of the session that it goes on in.
func (f *facts) aliased(e entry) entry {
	a := f.alias[e.node]
	if a.inc == 0 {
		return e
	}
	if e.inc == a.inc {
		e.inc, e.lowest = a.base, 0
		e.sequence += aliasOffset
		if e.kind == claimed {
			e.claim.number += aliasOffset
		}
	}
	if e.kind != claimed && e.claim.inc == a.inc {
		e.claim.inc = a.base
		e.claim.number += aliasOffset
	}
	return e
}

// unalias is the reverse for a claim that is read from the state.
func (f *facts) unalias(claim ref) ref {
	if a := f.alias[claim.node]; claim.number >= aliasOffset {
		claim.inc = a.inc
		claim.number -= aliasOffset
	}
	return claim
}
