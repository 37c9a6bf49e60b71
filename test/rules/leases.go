package main

func leases() []rule {
	return []rule{
		{
			text:    "A lease lasts from the sending of the ping",
			in:      "takeLease",
			without: []change{{"cluster/lease.go", "now, until := s.c.cfg.Monotonic(), sent+s.c.cfg.Timing.Lease", "now, until := s.c.cfg.Monotonic(), max(sent, s.c.cfg.Monotonic())+s.c.cfg.Timing.Lease"}},
			test:    "cluster.TestLeaseLastsFromTheSending", says: "outlasts",
			note: "model 1",
		},
		{
			text: "Leases run on CLOCK_BOOTTIME, which goes on while the machine sleeps",
			in:   "`cluster/clock.go` bootTime",
			note: "model 4; a test would have to put the machine to sleep",
		},
		{
			text:    "A ping is answered only after a proof of leadership",
			in:      "answerPing",
			without: []change{{"cluster/grant.go", "commit, err := l.verify(ctx)", "commit, err := l.c.visibleCommit()"}},
			test:    "cluster.TestNoLeaseWithoutAProof", says: "without a majority",
			note: "model 2",
		},
		{
			text:    "The proof counts only what followers were asked after the ping came",
			in:      "acknowledged",
			without: []change{{"cluster/transport.go", "ok && a.term == term && a.asked >= since {", "ok && a.term == term {"}},
			test:    "cluster.TestAcknowledged", says: "transport_test.go",
		},
		{
			text:    "The proof is of the leader's own term",
			in:      "acknowledged",
			without: []change{{"cluster/transport.go", "ok && a.term == term && a.asked >= since {", "ok && a.asked >= since {"}},
			test:    "cluster.TestAcknowledged", says: "transport_test.go",
		},
		{
			text: "A new leader answers pings only past its barrier",
			in:   "`cluster/leadership.go` runLeadership",
			note: "model 6; in the code a ping finds no leadership before",
		},
		{
			text:    "A lease is only for an incarnation that is active",
			in:      "grant",
			without: []change{{"cluster/grant.go", "if !ok || !record.Active || record.Incarnation != req.Incarnation {", "if !ok || !record.Active && false {"}},
			test:    "cluster.TestGrant", says: "another incarnation",
		},
		{
			text:    "Once NodeDown is decided, that incarnation gets no lease",
			in:      "grant",
			without: []change{{"cluster/grant.go", "\tif w.down {\n", "\tif false {\n"}},
			test:    "cluster.TestGrant", says: "declared down",
			note: "model 8",
		},
		{
			text:    "A node whose state trails the log by 5 s gets no lease",
			in:      "grant",
			without: []change{{"cluster/grant.go", "req.AppliedIndex < old {", "false {"}},
			test:    "cluster.TestGrant", says: "far behind",
		},
		{
			text:    "NodeDown waits for a lease and a margin without a ping",
			in:      "review",
			without: []change{{"cluster/leadership.go", "case silent > t.Lease+t.Margin:", "case silent > t.Lease:"}},
			test:    "cluster.TestReview", says: "within the margin",
			note: "model 3",
		},
		{
			text:    "A new leader waits that long before its first",
			in:      "review",
			without: []change{{"cluster/leadership.go", "silent := now - max(l.since, w.seen, w.heard)", "silent := now - max(w.seen, w.heard)"}},
			test:    "cluster.TestReview", says: "new leader",
			note: "model 5",
		},
		{
			text:    "So does one that stood still itself",
			in:      "restart",
			without: []change{{"cluster/leadership.go", "\tl.since = now\n}", "}"}},
			test:    "cluster.TestReview", says: "stood still",
		},
		{
			text:    "NodeDown counts only in the term in which it was decided",
			in:      "nodeDown",
			without: []change{{"fsm/apply_cluster.go", "if e.Term != t.term {", "if false {"}},
			test:    "fsm.TestClaimsOfDeadNodes", says: "NodeDown of an earlier term",
			note: "model 7",
		},
		{
			text:    "NodeUp names the incarnation that it replaces",
			in:      "nodeUp",
			without: []change{{"fsm/apply_cluster.go", "case old.GetIncarnation() != e.Replaces:", "case false:"}},
			test:    "fsm.TestEndedIncarnationIsRefused", says: "NodeUp proposed again",
		},
		{
			text:    "A lease doesn't outlive its incarnation",
			in:      "end",
			without: []change{{"cluster/session.go", "\ts.ended = true\n\ts.c.lease.drop()\n", "\ts.ended = true\n"}},
			test:    "cluster.TestIncarnationEndsUnderWay", says: "outlived its incarnation",
		},
		{
			text:    "The loss of the lease is announced by a timer, without a ping",
			in:      "watchLease",
			without: []change{{"cluster/lease.go", "\t\t\ttimer.Reset(left)\n", ""}},
			test:    "cluster.TestLeaderCutOff", says: "wasn't announced",
		},
		{
			text:    "Without a lease, connections that haven't sent their last byte are reset",
			in:      "leaseChanged",
			without: []change{{"delivery/scheduler.go", "\t\treturn\n\t}\n\ts.abort()\n}", "\t\treturn\n\t}\n}"}},
			test:    "delivery.TestLeaseLostBeforeTheDot/DATA", says: "waited in vain: the claim is released",
		},
		{
			text:    "The last byte needs a lease and a live claim at that moment",
			in:      "leasedBody.Read",
			without: []change{{"delivery/attempt.go", "if errors.Is(err, io.EOF) && !b.holds() {", "if false {"}},
			test:    "delivery.TestBodyEndsOnlyWithTheClaim", says: "the body ends with",
			note: "model 9 and 10",
		},
		{
			text:    "After the last byte only the reply is awaited, and it counts",
			in:      "abortUnlessCommitted",
			without: []change{{"delivery/attempt.go", "if a.conn != nil && !a.conn.AbortUnlessCommitted() {", "if a.conn != nil {\n\t\ta.conn.Abort()\n\t}\n\tif false {"}},
			test:    "delivery.TestLeaseLostAfterTheDot", says: "lease_test.go",
		},
		{
			text:    "And no other transaction begins for the message's other recipients",
			in:      "Conn.AbortUnlessCommitted",
			without: []change{{"delivery/smtpout/conn.go", "\t\tc.last = true\n", ""}},
			test:    "delivery.TestLeaseLostBetweenTransactions", says: "want none begun without a lease",
		},
		{
			text: "A node that starts does nothing before it has applied what was committed, and then under a new incarnation",
			in:   "`cluster/live.go` live",
			note: "model 20; in the code NodeUp is the last of what it waits for",
		},
	}
}
