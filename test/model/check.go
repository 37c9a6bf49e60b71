package model

// check compares a step with the promises. It returns the one that it breaks.
func (m *model) check(s step, before, w *world) promise {
	end := m.logs.end(w.log)
	switch s.op {
	case opStart, opDot:
		if broken := m.checkAct(s, w, end); broken != "" {
			return broken
		}
	}
	if w.client == got250 && !end.exists && !w.onTheWay(accepted) && before.client != silent {
		return p2
	}
	if w.client == got451 && !w.abortLost && end.exists && !end.counted && !w.onTheWay(accepted) && !w.onTheWay(aborted) {
		return p2
	}
	return ""
}

// onTheWay: such an entry may still be committed.
func (w *world) onTheWay(k kind) bool {
	for _, e := range w.queued {
		if e.kind == k {
			return true
		}
	}
	return w.nodes[nodeA].has(k) || w.nodes[nodeB].has(k)
}

// checkAct is about an attempt that begins or sends its final dot.
func (m *model) checkAct(s step, w *world, end *facts) promise {
	a := &w.attempts[s.y]
	if record := end.members[s.x]; !record.active || record.inc != w.nodes[s.x].inc {
		return p3
	}
	for i := range w.attempts {
		if uint8(i) != s.y && m.overlap(w, a, &w.attempts[i]) {
			return p4
		}
	}
	if m.logs.at(w.log, a.at).heard {
		return p5
	}
	// What ended the claim may not be here yet; but what is here must count.
	if seen := m.seen(w, s.x); seen.index >= a.at && seen.claim != a.claim {
		return p5
	}
	return ""
}

// overlap: two attempts of which both may deliver, and the log had no in-doubt
// mark between their claims.
func (m *model) overlap(w *world, a, b *attempt) bool {
	switch b.stage {
	case noAttempt, granted, ended, refused:
		return false
	}
	first, second := min(a.at, b.at), max(a.at, b.at)
	if first == second {
		return true
	}
	return m.logs.at(w.log, second).doubts <= m.logs.at(w.log, first).doubts
}

// settled: the message has come to its end, and all who are concerned know it.
func (m *model) settled(w *world) bool {
	if w.client == silent || w.client == waiting || w.queued[0].kind != none {
		return false
	}
	for x := range w.nodes {
		if n := &w.nodes[x]; n.phase != up || n.open[0].kind != none {
			return false
		}
	}
	for i := range w.attempts {
		a := &w.attempts[i]
		if !a.orphan && (a.stage == running || a.stage == dotted || a.stage == took || a.stage == refused) {
			return false
		}
	}
	end := m.logs.end(w.log)
	return !end.exists || end.claim.inc == 0 && (end.held || end.delivered && m.arrived(w))
}

// arrived: the remote has the message at least once.
func (m *model) arrived(w *world) bool {
	for i := range w.attempts {
		if s := w.attempts[i].stage; s == told || s == took {
			return true
		}
	}
	return false
}
