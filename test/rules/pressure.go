package main

func pressure() []rule {
	return []rule{
		{
			text:    "Proposal bytes under way are capped",
			in:      "Propose",
			without: []change{{"cluster/propose.go", "if err := room.Acquire(ctx, size); err != nil {", "size = 0\n\tif err := room.Acquire(ctx, size); err != nil {"}},
			test:    "cluster.TestProposeRefusals", says: "no room",
		},
		{
			text:    "Control events have a lane ahead of bodies",
			in:      "laneOf",
			without: []change{{"cluster/propose.go", "\treturn laneControl\n", "\treturn laneBodies\n"}},
			test:    "cluster.TestProposeRefusals", says: "propose_test.go",
		},
		{
			text:    "An event is at most 384 KiB",
			in:      "Propose",
			without: []change{{"cluster/propose.go", "if size > fsm.MaxEvent {", "if false {"}},
			test:    "cluster.TestProposeRefusals", says: "test timed out",
		},
		{
			text:    "An event that can't be encoded holds up no other",
			in:      "weedOut",
			without: []change{{"cluster/session.go", "\t\t\ts.resolve(p, nil, 0, fmt.Errorf(\"%w: %w\", ErrInvalid, err))\n", "\t\t\tagain = append(again, p)\n"}},
			test:    "cluster.TestProposeRefusals", says: "test timed out",
		},
		{
			text:    "Buffers for long bodies are bounded, and a client that gets none is told so",
			in:      "moreRoom",
			without: []change{{"smtpd/buffers.go", "if err := acquire(ctx, b.lent, patience); err != nil {", "if false {"}},
			test:    "smtpd.TestNoBufferLeft", says: "accept_test.go",
		},
		{
			text:    "Pieces of a body under way are bounded",
			in:      "piecesUnderWay",
			without: []change{{"smtpd/body.go", "const piecesUnderWay = 2", "const piecesUnderWay = 200"}},
			test:    "smtpd.TestMemoryOfLongBody", says: "accept_test.go",
		},
		{
			text: "Open uploads are bounded in the whole cluster",
			note: "not built: each node bounds its own buffers",
		},
		{
			text:    "Below a disk reserve new mail gets 452 while delivery goes on",
			in:      "gate.Check",
			without: []change{{"node/seams.go", "if g.n.disk.space().low() {\n\t\treturn &relay.Reply{Code: 452, Enhanced: \"4.3.1\", Text: \"short of disk space, try again later\"}\n\t}\n\tif g.n.cluster.DisksLow() {", "if false {"}},
			test:    "node.TestDiskReserveAtTheFrontDoor", says: "reserve_test.go",
		},
		{
			text:    "A failed write or fsync of the log ends the node",
			in:      "StoreLogs",
			without: []change{{"cluster/logwatch.go", "\t\treturn w.fail(fmt.Errorf(\"write the raft log: %w\", err))\n", "\t\treturn err\n"}},
			test:    "cluster.TestLogWatchFails", says: "test timed out",
			note: "`make diskfault`",
		},
		{
			text:    "A write of term or vote that fails ends the node",
			in:      "write",
			without: []change{{"cluster/stablewatch.go", "\t\tw.fatal(err)\n", ""}},
			test:    "cluster.TestStableWatchEndsTheNode", says: "stablewatch_test.go",
		},
		{
			text:    "A log write that doesn't end ends the node",
			in:      "StoreLogs",
			without: []change{{"cluster/logwatch.go", "\twatchdog := time.AfterFunc(w.limit, func() {\n", "\twatchdog := time.AfterFunc(100_000*w.limit, func() {\n"}},
			test:    "cluster.TestLogWatchHangs", says: "test timed out",
		},
		{
			text:    "A leader whose disk hangs goes: it sends nothing after 3 s",
			in:      "AppendEntries",
			without: []change{{"cluster/transport.go", "\tif err := t.disk(); err != nil {\n\t\treturn err\n\t}\n\tasked", "\tasked"}},
			test:    "cluster.TestLeaderWhoseDiskHangs", says: "not within 20 s",
			note: "decisions/0012",
		},
	}
}
