package main

func promises() []rule {
	return []rule{
		{
			text: "P1: every acceptance ends. A due recipient that the window has passed is found by the full rescan, and counted",
			in:   "rescanLane",
			without: []change{{"delivery/scheduler.go",
				"\t\tl.suspect = &rows[0]\n\t}\n\tl.rewind()\n", "\t\tl.suspect = &rows[0]\n\t}\n"}},
			test: "delivery.TestRescanFindsWhatWasMissed", says: "is still not looked at",
			note: "model, P1 in every row",
		},
		{
			text: "P2: 250 only once the acceptance is known to be in the log",
			in:   "session.propose",
			without: []change{{"smtpd/accept.go",
				"\t\ts.server.abortAcceptance(b)\n\t\treturn false", "\t\ts.server.abortAcceptance(b)\n\t\treturn true"}},
			test: "smtpd.TestUnknownOutcomeIsTakenBack", says: "451",
			note: "model 19; `make diskfault` blocks fsync on a majority",
		},
		{
			text:    "Behind a chunk that wasn't taken none is: the rest isn't the message",
			in:      "session.beginChunks",
			without: []change{{"smtpd/transaction.go", "\tif s.tx.refused == nil {\n", "\tif true {\n"}},
			test:    "smtpd.TestChunksBehindARefusedOne", says: "want \"451",
		},
		{
			text:    "P3: a node without a quorum answers 4xx",
			in:      "gate.Check",
			without: []change{{"node/seams.go", "if !g.n.cluster.Current() {", "if false {"}},
			test:    "node.TestNodeWithoutAClusterDefers", says: "want 451",
			note: "`make chaos`, run partition",
		},
		{
			text:    "P3: a node without a lease delivers nothing",
			in:      "mayAct",
			without: []change{{"delivery/scheduler.go", "s.incarnation != 0 && s.cfg.Lease.Leased()", "s.incarnation != 0"}},
			test:    "delivery.TestNothingWithoutALease", says: "without a lease",
		},
		{
			text:    "P4: one attempt at a time: what is claimed isn't claimed again",
			in:      "grant",
			without: []change{{"fsm/apply_attempt.go", "\t\t\tr.rec.Claim != nil || r.rec.Ordered", "\t\t\tr.rec.Ordered"}},
			test:    "fsm.TestClaimsThatDoNotHold", says: "claimed already",
			note: "model, P4 in every row; `make chaos` compares the sinks' times with the log's",
		},
		{
			text:    "P5: state is the fold of the log: a restart changes nothing that reaches it, nor does map order, clock or chance",
			in:      "contentAbandoned",
			without: []change{{"fsm/apply_content.go", "\tdelete(t.s.orphans, id)\n", ""}},
			test:    "fsm.TestSweepsDoNotDependOnRestarts", says: "after a restart: digest",
			note: "`test/architecture` forbids clock, chance and network in fsm",
		},
		{
			text: "P6: memory is bounded by connections, slots and windows",
			note: "`make chaos`, run memory, prints resident memory with long bodies on many connections and a long queue",
		},
	}
}

func way() []rule {
	return []rule{
		{
			text: "A refusal for good from state needs a lease, and everything applied that was committed when it was granted",
			in:   "lease.current",
			without: []change{{"cluster/lease.go",
				"return now < g.until && applied >= g.commit", "return now < g.until"}},
			test: "cluster.TestCurrentNeedsWhatWasCommitted", says: "is not applied",
		},
		{
			text: "RCPT asks for the lease before it reads the state",
			in:   "admit",
			without: []change{{"smtpd/policy.go",
				"if closed := s.server.cfg.Gate.Check(); closed != nil {", "if closed := s.server.cfg.Gate.Check(); false {"}},
			test: "smtpd.TestDialogues", says: "dialogue differs",
		},
		{
			text:    "While no domain is configured, mail is deferred and not refused",
			in:      "admit",
			without: []change{{"smtpd/policy.go", "if !directory.Configured() {", "if false {"}},
			test:    "smtpd.TestDialogues", says: "dialogue differs",
		},
		{
			text: "An acceptance is refused unless all pieces of its body are there, by count and length",
			in:   "fileContent",
			without: []change{{"fsm/apply_accept.go",
				"upload.Pieces != c.Pieces || upload.Bytes != c.Size || t.hasPieceFrom(id, c.Pieces) {", "false {"}},
			test: "fsm.TestBodyInPieces", says: "acceptance with a piece missing",
		},
		{
			text: "Pieces with a gap are not a whole body",
			in:   "hasPieceFrom",
			without: []change{{"fsm/apply_accept.go",
				" || t.hasPieceFrom(id, c.Pieces) {", " {"}},
			test: "fsm.TestPiecesWithAGapAreIncomplete", says: "acceptance of a body with a gap",
		},
		{
			text: "A body that rides in its acceptance must match its length and checksum",
			in:   "fileContent",
			without: []change{{"fsm/apply_accept.go",
				"if uint64(len(t.payload)) != c.Size || crc32.Checksum(t.payload, castagnoli) != c.Crc32C {", "if false && crc32.Checksum(t.payload, castagnoli) != c.Crc32C {"}},
			test: "fsm.TestRefusedBounces", says: "report cut short",
		},
		{
			text: "A piece must match its checksum",
			in:   "contentAppended",
			without: []change{{"fsm/apply_content.go",
				"if crc32.Checksum(t.payload, castagnoli) != e.Crc32C {", "if false && crc32.Checksum(t.payload, castagnoli) != e.Crc32C {"}},
			test: "fsm.TestPieceMustMatchItsChecksum", says: "a piece with a wrong checksum",
		},
		{
			text: "An acceptance is refused unless every recipient's domain and destination exist at that index",
			in:   "messageAccepted",
			without: []change{{"fsm/apply_accept.go",
				"if _, ok := t.route(domainOf(r)); !ok {", "if _, ok := t.route(domainOf(r)); !ok && false {"}},
			test: "fsm.TestNamedDomainRoutes", says: "without a named domain",
		},
		{
			text: "All effects of an entry and its index are one batch",
			in:   "commit",
			without: []change{{"fsm/apply.go",
				"err = t.batch.Set(keyApplied, encode(t.applied), nil)", "err = errorOf(t.gen.db.Set(keyApplied, encode(t.applied), pebble.NoSync), t.gen.db.Flush())"}},
			test: "fsm.TestCrashWhileFolding", says: "crash_test.go",
		},
		{
			text: "A body's memory is given back only once its outcome is known",
			in:   "proposePiece",
			note: "by its type: `buffers.forget` where it isn't known",
		},
		{
			text: "A claim within an acceptance, where the accepting node owns the destination",
			note: "not built: the owner claims with its next AttemptStarted",
		},
		{
			text:    "A bounce files its report in the same step",
			in:      "bounced",
			without: []change{{"fsm/apply_bounce.go", "report, refusal := t.fileReport(m, e.Report)", "report, refusal := t.fileReport(m, nil)"}},
			test:    "fsm.TestBounceFilesItsReport", says: "not found",
		},
		{
			text:    "The body goes with the last recipient, and not before",
			in:      "saveMessage",
			without: []change{{"fsm/message.go", "if m.rec.Open == 0 && !m.ended {", "if m.rec.Open <= 1 && !m.ended {"}},
			test:    "fsm.TestMessageFromAcceptanceToDelivery", says: "digest of content",
		},
	}
}
