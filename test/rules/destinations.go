package main

func destinations() []rule {
	return []rule{
		{
			text:    "A destination is down only when a second node's probe failed too",
			in:      "destinationFailed",
			without: []change{{"fsm/apply_destination.go", "case h.State == pb.DestinationHealth_STATE_SUSPECT && (t.node != h.FirstNode || len(t.tables.eligible) < 2):", "case h.State == pb.DestinationHealth_STATE_SUSPECT && false:"}},
			test:    "fsm.TestBreaker", says: "after the second node's",
		},
		{
			text:    "One node's failure makes it suspect, and another owner's probe due at once",
			in:      "destinationFailed",
			without: []change{{"fsm/apply_destination.go", "\t\tif len(t.tables.eligible) < 2 {\n", "\t\tif true {\n"}},
			test:    "fsm.TestBreaker", says: "after one failure",
		},
		{
			text:    "Probes rotate over the nodes",
			in:      "destinationFailed",
			without: []change{{"fsm/apply_destination.go", "\th.Rank++\n", ""}},
			test:    "fsm.TestBreaker", says: "each node in turn",
		},
		{
			text:    "Ownership stays with the node whose probe succeeded",
			in:      "destinationRecovered",
			without: []change{{"fsm/apply_destination.go", "\th.Failed, h.FirstNode, h.NextProbe = 0, \"\", 0\n", "\th.Failed, h.FirstNode, h.NextProbe, h.Rank = 0, \"\", 0, h.Rank+1\n"}},
			test:    "fsm.TestBreaker", says: "after the recovery",
		},
		{
			text:    "One event for the outage: a failure that answers another probe is stale",
			in:      "destinationFailed",
			without: []change{{"fsm/apply_destination.go", "if e.Probes != old.Health.Probes || t.tables.owner(old) != t.node {", "if t.tables.owner(old) != t.node {"}},
			test:    "fsm.TestBreaker", says: "a probe that isn't due",
		},
		{
			text:    "Only the owner's word counts",
			in:      "destinationFailed",
			without: []change{{"fsm/apply_destination.go", "if e.Probes != old.Health.Probes || t.tables.owner(old) != t.node {", "if e.Probes != old.Health.Probes {"}},
			test:    "fsm.TestBreaker", says: "which isn't the owner",
		},
		{
			text:    "New hosts make a verdict on the old ones stale",
			in:      "destinationSet",
			without: []change{{"fsm/apply_destination.go", "\t\thealth.Probes++\n\t\tif health.State", "\t\tif health.State"}},
			test:    "fsm.TestVerdictOnOldHostsIsStale", says: "a failure of the old hosts",
		},
		{
			text:    "Probes come from 5 s on, doubling, to 5 min",
			in:      "nextProbe",
			without: []change{{"delivery/health.go", "\t\tinterval = min(2*interval, longest)\n", ""}},
			test:    "delivery.TestNextProbe", says: "parts_test.go",
		},
		{
			text:    "A retry, and other hosts, let them begin anew",
			in:      "probeAnew",
			without: []change{{"fsm/apply_destination.go", "\thealth.Failed = min(health.Failed, 1)\n", ""}},
			test:    "fsm.TestProbesBeginAnew", says: "want 1 failed",
		},
		{
			text:    "Beside another node's probe none begins without a message",
			in:      "Probing",
			without: []change{{"fsm/claims.go", "return s.claims.hasProbe(destination)", "return false"}},
			test:    "delivery.TestCalloutsAwaitAnothersProbe", says: "beside another node's probe",
		},
		{
			text:    "A probe counts as no attempt",
			in:      "settle",
			without: []change{{"delivery/outcome.go", "s.proposeFailed(a, o.uncounted, true)", "s.proposeFailed(a, o.uncounted, false)"}},
			test:    "delivery.TestOutage", says: "attempts are counted",
		},
		{
			text: "What is claimed when the outage comes is given back",
			in:   "`delivery/claim.go` startReady",
			note: "no test fails without it: such claims are carried out when the outage ends",
		},
		{
			text:    "A host failure beside successes of the last 30 s lowers concurrency only",
			in:      "verdictOn",
			without: []change{{"delivery/health.go", "\tcase a.ended.Sub(q.lastAnswer) < recentSuccess && (q.limit > 1 || len(q.running)+len(q.calling) > 1):\n", "\tcase false:\n"}},
			test:    "delivery.TestHostLimit", says: "an outage was declared",
		},
		{
			text:    "A destination is up while one of its hosts is",
			in:      "reach",
			without: []change{{"delivery/attempt.go", "\t\tif a.said(conn, say) {\n", "\t\tif a.said(conn, say); true {\n"}},
			test:    "delivery.TestSecondHost", says: "outage_test.go",
		},
		{
			text:    "A peer that doesn't answer even MAIL is down, though the message is in doubt",
			in:      "blamesHost",
			without: []change{{"delivery/health.go", "return f.Class() == relay.HostFailure || f.InDoubt && f.Phase == relay.PhaseMail", "return f.Class() == relay.HostFailure"}},
			test:    "delivery.TestPeerSilentAtMailIsDown", says: "silent_test.go",
		},
		{
			text:    "An attempt that was cut off for its length says nothing of the host",
			in:      "blamesHost",
			without: []change{{"delivery/health.go", "\tif errors.Is(f, errTooLong) {\n\t\treturn false\n\t}\n", ""}},
			test:    "delivery.TestAttemptThatTakesTooLong", says: "silent_test.go",
		},
		{
			text:    "A probe that said nothing to the host, for what it doesn't offer or a body that can't be read, ends no outage",
			in:      "verdictOn",
			without: []change{{"delivery/health.go", "\tcase failure == nil && a.isSilent():\n\t\treturn s.verdictOnSilence(q, a)\n", ""}},
			test:    "delivery.TestSilentProbeEndsNoOutage", says: "it has recovered",
		},
		{
			text:    "What its owner can't read another node delivers",
			in:      "passOn",
			without: []change{{"delivery/unreadable.go", "if a.copies.elsewhere && !a.probe && q.up() {", "if false {"}},
			test:    "delivery.TestAnotherNodeDeliversWhatTheOwnerCannotRead", says: "waited in vain",
		},
		{
			text:    "While a node may have it whole, no attempt is its last",
			in:      "sortUnreadable",
			without: []change{{"delivery/unreadable.go", "if !a.copies.somewhere && a.ended", "if a.ended"}},
			test:    "delivery.TestSortFailure", says: "expired, want uncounted",
		},
		{
			text:    "Nor does it end by its age",
			in:      "expired",
			without: []change{{"delivery/expiry.go", "if !awaits {", "if !awaits || true {"}},
			test:    "delivery.TestUnreadableEndsOnlyWhenEveryNodeHasTried", says: "it ends while another node",
		},
		{
			text:    "The same 4xx to 10 different messages in a row is the host's failure",
			in:      "learn",
			without: []change{{"delivery/refusals.go", "return len(messages) == refusalsInARow", "return false"}},
			test:    "delivery.TestSameRefusalForEverybody", says: "the destination is down",
		},
		{
			text:    "Concurrency begins at 1 after an outage and rises with success",
			in:      "update",
			without: []change{{"delivery/queue.go", "\t\tq.limit = 1\n\t\tclear(q.refusals)\n", "\t\tq.limit = q.slots()\n\t\tclear(q.refusals)\n"}},
			test:    "delivery.TestConcurrency", says: "after an outage",
		},
		{
			text:    "Expiry goes by the message's own age",
			in:      "expireClass",
			without: []change{{"delivery/expiry.go", "s.cfg.Now().Add(-retention)", "s.cfg.Now()"}},
			test:    "delivery.TestExpiry", says: "the young message",
		},
		{
			text:    "Where the destination has recovered since the last attempt, one more comes before expiry",
			in:      "attemptComes",
			without: []change{{"delivery/expiry.go", " ||\n\t\tdestination.Health.RecoveredAt > record.LastError.GetAt()\n", "\n"}},
			test:    "delivery.TestAttemptComes", says: "parts_test.go",
		},
		{
			text:    "Retries leave half of the slots to fresh mail",
			in:      "room",
			without: []change{{"delivery/lane.go", "return min(max(1, n/2)-taken.late(), n-taken.all())", "return n - taken.all()"}},
			test:    "delivery.TestRetriesLeaveSlotsToFreshMail", says: "lane_test.go",
			note: "a lane for call-outs: not built",
		},
		{
			text:    "A destination that an operator has suspended is claimed for by nobody",
			in:      "grant",
			without: []change{{"fsm/apply_attempt.go", "!ok || destination.Suspended != nil || ", "!ok || "}},
			test:    "fsm.TestSuspension", says: "a claim:",
		},
		{
			text:    "A sender is told of a delay by the policy of each recipient",
			in:      "isLate",
			without: []change{{"delivery/notice.go", "return policy.WarnAfter > 0 && s.cfg.Now()", "return true || s.cfg.Now()"}},
			test:    "delivery.TestEachIsLateByItsOwnPolicy", says: "are said to be late",
		},
		{
			text:    "A report that fails is frozen, and causes none",
			in:      "giveUp",
			without: []change{{"delivery/report.go", "if isReport(m) {", "if isReport(m) && false {"}},
			test:    "delivery.TestReports", says: "deliver_test.go",
		},
	}
}
