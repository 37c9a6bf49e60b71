package main

func claims() []rule {
	return []rule{
		{
			text:    "Only the owner at that index is granted a claim",
			in:      "grant",
			without: []change{{"fsm/apply_attempt.go", "if !ok || destination.Suspended != nil || t.tables.owner(destination) != t.node {", "if !ok || destination.Suspended != nil {"}},
			test:    "fsm.TestClaimsThatDoNotHold", says: "not the owner",
		},
		{
			text:    "A claim that doesn't hold is dropped alone",
			in:      "grant",
			without: []change{{"fsm/apply_attempt.go", "r.rec.Destination != c.Destination {\n\t\t\tcontinue\n", "r.rec.Destination != c.Destination {\n\t\t\treturn false\n"}},
			test:    "fsm.TestClaimsThatDoNotHold", says: "claim_test.go",
		},
		{
			text:    "While a destination isn't up, only its one probe is granted",
			in:      "grant",
			without: []change{{"fsm/apply_attempt.go", "if !up && (!c.Probe || t.s.claims.hasProbe(c.Destination)) {", "if !up && !c.Probe {"}},
			test:    "fsm.TestOneProbeWhileDown", says: "second probe",
		},
		{
			text:    "An attempt's number is used once in an incarnation",
			in:      "grant",
			without: []change{{"fsm/apply_attempt.go", "taken := t.s.claims.get(t.event.Incarnation, c.Attempt); taken {", "taken := t.s.claims.get(t.event.Incarnation, c.Attempt); taken && false {"}},
			test:    "fsm.TestClaimsThatDoNotHold", says: "the same attempt twice",
			note: "model 12",
		},
		{
			text:    "NodeDown and NodeUp revoke claims: in doubt, and due again",
			in:      "endIncarnation",
			without: []change{{"fsm/apply_cluster.go", "\tt.revokeClaims(node.Incarnation, node.Name)\n", ""}},
			test:    "fsm.TestClaimsOfDeadNodes", says: "after the first death",
			note: "model 21",
		},
		{
			text:    "A recipient twice in doubt through deaths is held",
			in:      "maxDeaths",
			without: []change{{"fsm/apply_attempt.go", "const maxDeaths = 2", "const maxDeaths = 3"}},
			test:    "fsm.TestClaimsOfDeadNodes", says: "after the second death",
		},
		{
			text:    "Outstanding claims are at most twice the slots",
			in:      "claimDue",
			without: []change{{"delivery/claim.go", "\tmost := 2*q.slots() - foreign\n\tahead := min(q.beside(2*q.limit, foreign, now), most)\n", "\tmost := 4*q.slots() - foreign\n\tahead := min(q.beside(4*q.limit, foreign, now), most)\n"}},
			test:    "delivery.TestOwnershipMoves", says: "claims wait",
		},
		{
			text:    "What one lane gave is proposed though another one can't be read",
			in:      "claimDue",
			without: []change{{"delivery/claim.go", "\t\t\tbreak // what the other lanes gave", "\t\t\treturn // what the other lanes gave"}},
			test:    "delivery.TestClaimsOfLanesThatCouldBeRead", says: "isn't proposed",
		},
		{
			text:    "Slot first: an attempt begins only in a free one",
			in:      "startReady",
			without: []change{{"delivery/claim.go", "if !isProbe(l.ready[0]) && s.freeSlots(q, number) <= 0 {", "if !isProbe(l.ready[0]) && s.freeSlots(q, number) <= 0 && false {"}},
			test:    "delivery.TestOutage", says: "connections at once",
		},
		{
			text:    "The new owner counts other nodes' live claims as slots in use",
			in:      "elsewhere",
			without: []change{{"delivery/claim.go", "return q.closing + s.cfg.State.ForeignClaims(q.name, s.incarnation)", "return q.closing"}},
			test:    "delivery.TestForeignClaimsTakeSlots", says: "free slots of 3",
		},
		{
			text:    "Claims of an old owner that hang leave the concurrency of one",
			in:      "freeSlots",
			without: []change{{"delivery/claim.go", "q.beside(q.limit, s.cfg.State.ForeignClaims(q.name, s.incarnation), s.cfg.Now()) - q.closing", "q.limit-s.elsewhere(q)"}},
			test:    "delivery.TestForeignClaimsTakeSlots", says: "free slots at a concurrency of 1",
		},
		{
			text:    "A claim that came with an installed state is known to nobody, and so given back",
			in:      "claimsAnswered",
			without: []change{{"delivery/claim.go", "waits && (answer.err == nil || !s.cfg.State.HoldsClaim(claim))", "waits && !s.cfg.State.HoldsClaim(claim)"}},
			test:    "delivery.TestClaimOfAnInstalledStateIsForgotten", says: "is still waited for",
		},
		{
			text:    "An old owner gives back the claims that have no attempt",
			in:      "schedule",
			without: []change{{"delivery/scheduler.go", "\t\ts.releaseReady(q, every)\n\t\ts.dismiss(q, errNotOwner)\n", "\t\ts.dismiss(q, errNotOwner)\n"}},
			test:    "delivery.TestOwnershipMoves", says: "waited in vain",
		},
		{
			text:    "And closes its idle connections",
			in:      "schedule",
			without: []change{{"delivery/scheduler.go", "\t\ts.closeConns(q, q.takeIdle(time.Time{}))\n\t\tif q.empty() {", "\t\tif q.empty() {"}},
			test:    "delivery.TestDestinationRemoved", says: "deliver_test.go",
		},
		{
			text:    "The scheduler learns its claims from Apply: one of an earlier proposal that the next incarnation got is carried out",
			in:      "absorb",
			without: []change{{"delivery/scheduler.go", "\t// A claim that was proposed in one incarnation may be granted in the next.\n\ts.followIncarnation()\n", ""}},
			test:    "delivery.TestGrantOfTheNextIncarnation", says: "claims are ready",
			note: "model 11",
		},
		{
			text:    "Claims of this incarnation without an attempt are given back",
			in:      "reconcile",
			without: []change{{"delivery/claim.go", "\t\tcase before[attempt]:\n", "\t\tcase before[attempt] && false:\n"}},
			test:    "delivery.TestOrphanClaimIsReleased", says: "waited in vain",
		},
		{
			text:    "An attempt ends after 30 minutes at the latest",
			in:      "startAttempt",
			without: []change{{"delivery/attempt.go", "context.WithTimeoutCause(s.attempts, s.cfg.Timing.Attempt, errTooLong)", "context.WithTimeoutCause(s.attempts, 100_000*s.cfg.Timing.Attempt, errTooLong)"}},
			test:    "delivery.TestAttemptThatTakesTooLong", says: "waited in vain",
		},
		{
			text:    "What belongs to an incarnation that has ended is reset before the next one begins",
			in:      "followIncarnation",
			without: []change{{"delivery/scheduler.go", "\ts.abort()\n\ts.incarnation, s.unknown = now, nil\n", "\ts.incarnation, s.unknown = now, nil\n"}},
			test:    "delivery.TestNewIncarnation", says: "lease_test.go",
		},
		{
			text:    "A returning node owns destinations only once the leader says so",
			in:      "nodeUp",
			without: []change{{"fsm/apply_cluster.go", "\t\tEligible: !known,\n", "\t\tEligible: true,\n"}},
			test:    "fsm.TestEligibility", says: "eligible:",
		},
		{
			text:    "The leader says so after 30 s",
			in:      "review",
			without: []change{{"cluster/leadership.go", "case !record.Eligible && now-w.seen > t.Eligible:", "case !record.Eligible:"}},
			test:    "cluster.TestReview", says: "eligible too soon",
		},
		{
			text: "Where all nodes are new, none has to wait",
			in:   "eligibleNodes",
			note: "`fsm` TestEligibility",
		},
		{
			text:    "Claims that are refused don't fill the log",
			in:      "claimsAnswered",
			without: []change{{"delivery/claim.go", "\tif denied == len(answer.attempts) {\n", "\tif false {\n"}},
			test:    "delivery.TestRefusedClaimsPause", says: "proposals of a claim that is refused",
		},
		{
			text:    "A stop gives claims back and leaves doubt in the log where the last byte went out",
			in:      "stop",
			without: []change{{"delivery/outcome.go", "\ts.proposeReleased(a, o.doubted, true)\n", "\ts.proposeReleased(a, o.doubted, false)\n"}},
			test:    "delivery.TestStopWithoutAnswers", says: "after the stop",
		},
	}
}
