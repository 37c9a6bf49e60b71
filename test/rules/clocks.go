package main

func clocks() []rule {
	return []rule{
		{
			text:    "A node whose wall clock moves against its monotonic clock stamps with corrected time",
			in:      "wallClock.now",
			without: []change{{"cluster/wallclock.go", "\tif c.follow(zero) != 0 {\n\t\treturn time.Unix", "\tif c.follow(zero) != 0 && false {\n\t\treturn time.Unix"}},
			test:    "cluster.TestWallClock", says: "after a step: it is",
		},
		{
			text:    "So does one whose clock was wrong from the start",
			in:      "wallClock.agree",
			without: []change{{"cluster/wallclock.go", "\tc.zero = time.Duration(clusterTime) - at\n", ""}},
			test:    "cluster.TestWallClock", says: "the cluster confirms the step",
		},
		{
			text:    "The leader refuses a lease to a node over 2 s from the median, itself included",
			in:      "clockError",
			without: []change{{"cluster/clockguard.go", "err == nil && apart > l.c.cfg.Timing.Clock {", "err == nil && apart > l.c.cfg.Timing.Clock && false {"}},
			test:    "cluster.TestClockSteps", says: "the node has no lease",
		},
		{
			text:    "Clocks are compared on the leader's monotonic clock: a jump of its own moves no other",
			in:      "grant",
			without: []change{{"cluster/grant.go", "w.clock = true, req.ClockWrong, time.Duration(req.Time)-received", "w.clock = true, req.ClockWrong, time.Duration(req.Time-l.c.cfg.Now().UnixNano())"}},
			test:    "cluster.TestClockSteps", says: "clocksteps_test.go",
		},
		{
			text:    "A node that can get no lease for its own fault is declared down, and its mail goes elsewhere",
			in:      "hear",
			without: []change{{"cluster/grant.go", "w != nil && !w.down && w.unfit == nil {", "w != nil && !w.down {"}},
			test:    "cluster.TestUnfitIsSilent", says: "the unfit node was heard",
		},
		{
			text:    "It comes up again only when its clock is right",
			in:      "catchUp",
			without: []change{{"cluster/live.go", "\t\t\terr = c.clock.trouble()\n", "\t\t\t_ = c.clock.trouble()\n"}},
			test:    "cluster.TestStartWithAWrongClock", says: "the node says why",
		},
		{
			text:    "What a leader with a wrong clock declares is stamped right",
			in:      "propose",
			without: []change{{"cluster/leadership.go", "event.Time = l.c.Now().UnixNano()", "event.Time = l.c.cfg.Now().UnixNano()"}},
			test:    "cluster.TestClockSteps", says: "down since",
		},
		{
			text:    "Where two clocks differ and nobody knows which is right, neither node acts",
			in:      "agreedClock",
			without: []change{{"cluster/clockguard.go", "\t\tif high-low <= limit {\n", "\t\tif high-low <= limit || true {\n"}},
			test:    "cluster.TestAgreedClock", says: "two that differ:",
		},
		{
			text:    "Unless one of them knows that it is wrong",
			in:      "agreedClock",
			without: []change{{"cluster/clockguard.go", "[][]time.Duration{clocks, trusted}", "[][]time.Duration{clocks}"}},
			test:    "cluster.TestAgreedClock", says: "the other knows that it is wrong",
		},
		{
			text:    "Where most clocks are set at once, the cluster follows them",
			in:      "wallClock.agree",
			without: []change{{"cluster/wallclock.go", "\tc.zero = time.Duration(clusterTime) - at\n", ""}},
			test:    "cluster.TestAllClocksStep", says: "the node follows its clock",
		},
	}
}
