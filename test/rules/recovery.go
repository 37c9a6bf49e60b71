package main

func recovery() []rule {
	const restored, restore, survivor = "fsm/apply_restored.go", "fsm/restore.go", "cluster/recover.go"
	return []rule{
		{
			text:    "What wasn't over in a backup is in doubt: the old cluster may have delivered it since",
			in:      "doubtRestored",
			without: []change{{restored, "\t\tr.rec.InDoubt++\n", ""}},
			test:    "fsm.TestRestore", says: "restore_test.go",
		},
		{
			text:    "And held, where delivery wasn't asked for",
			in:      "doubtRestored",
			without: []change{{restored, "if e.Hold != nil && r.rec.State ==", "if false && r.rec.State =="}},
			test:    "fsm.TestRestore", says: "restore_test.go",
		},
		{
			text: "What is held doesn't expire, however old it is",
			in:   "expired",
			without: []change{
				{"delivery/expiry.go", "if record.State != pb.RecipientState_RECIPIENT_STATE_PENDING || record.Claim != nil", "if record.Claim != nil"},
				{"fsm/message.go", "\tcase pb.RecipientState_RECIPIENT_STATE_HELD:\n\t\treturn classHeld\n", ""},
				{"fsm/ending.go", "r.rec.State == pb.RecipientState_RECIPIENT_STATE_PENDING && r.rec.Claim == nil", "r.rec.Claim == nil"},
			},
			test: "delivery.TestRestoredAWeekLater", says: "still held",
		},
		{
			text:    "A backup's nodes, sessions and claims don't come along",
			in:      "Adopt",
			without: []change{{restore, "{d.forgetNodes, d.dropUploads, d.doubtAll}", "{d.dropUploads, d.doubtAll}"}},
			test:    "fsm.TestRestore", says: "came from the backup",
		},
		{
			text:    "Nor do uploads without an acceptance",
			in:      "Adopt",
			without: []change{{restore, "{d.forgetNodes, d.dropUploads, d.doubtAll}", "{d.forgetNodes, d.doubtAll}"}},
			test:    "fsm.TestRestore", says: "came from the backup",
		},
		{
			text:    "Bulk operations that were under way in a backup end",
			in:      "Adopt",
			without: []change{{restore, "err := d.conclude(true)", "err := d.conclude(false)"}},
			test:    "fsm.TestRestore", says: "the bulk operation goes on",
		},
		{
			text:    "Time doesn't go back behind what a backup has",
			in:      "adopting.apply",
			without: []change{{restore, "max(d.Time, d.s.Applied().Clock)", "d.Time"}},
			test:    "fsm.TestRestoreKeepsTime", says: "the history went",
		},
		{
			text:    "A cluster that was restored or recovered has a new id",
			in:      "restored",
			without: []change{{restored, "\t\tt.applied.ClusterId = e.ClusterId\n", ""}},
			test:    "fsm.TestRestore", says: `cluster "OLD"`,
		},
		{
			text:    "What a recovered node has queued is in doubt: the lost majority went on after its last entry",
			in:      "Inherit",
			without: []change{{restore, "\terr := d.doubtAll(ctx)\n", "\terr := ctx.Err()\n"}},
			test:    "cluster.TestRecoverKilledAfterEachStep", says: "sent again unmarked",
		},
		{
			text:    "A recovery that is done again marks nothing twice",
			in:      "Inherit",
			without: []change{{restore, "once: true", "once: false"}},
			test:    "cluster.TestRecoverKilledAfterEachStep", says: "in_doubt:2",
		},
		{
			text:    "No node starts on a folder on which a recovery was interrupted",
			in:      "Survivor.steps",
			without: []change{{survivor, "return BeginUnfinished(s.DataDir, command)", "return nil"}},
			test:    "cluster.TestRecoverKilledAfterEachStep", says: "a start says",
		},
		{
			text:    "The log goes only when all of it is in the state, on disk",
			in:      "conclude",
			without: []change{{restore, "\treturn d.s.flush()\n", "\treturn nil\n"}},
			test:    "cluster.TestRecoverKilledAfterEachStep", says: "the state is on disk up to",
		},
		{
			text:    "Each recovery begins a later term",
			in:      "Survivor.nextTerm",
			without: []change{{survivor, "max(term, s.LastTerm) + 1", "max(term, s.LastTerm)"}},
			test:    "cluster.TestRecoverKilledAfterEachStep", says: "last entry of",
		},
	}
}

func versions() []rule {
	const drill, fault = "fsm/apply_drill.go", "cluster/fault.go"
	return []rule{
		{
			text:    "The state's version is raised only when all nodes can read it, those that are down included",
			in:      "versionRaised",
			without: []change{{"fsm/apply_version.go", "known := reads(node); known < e.Version {", "known := reads(node); false {"}},
			test:    "fsm.TestVersionWaitsForEveryNode", says: "this program knows up to",
			note: "test/operate upgrades between two builds under load",
		},
		{
			text:    "An event of a later version than the state's is refused, by its kind or any field in it",
			in:      "dates.later",
			without: []change{{"fsm/version.go", "if d.since[field.FullName()] > version {", "if d.since[field.FullName()] > version+1 {"}},
			test:    "fsm.TestEventsAreDated", says: "too early",
		},
		{
			text:    "A program doesn't open a state of a later version than it knows",
			in:      "load",
			without: []change{{"fsm/state.go", "if err := checkOwn(applied.Version); err != nil {", "if err := checkOwn(applied.Version); false {"}},
			test:    "fsm.TestStateOfLaterVersionIsRefused", says: "open:",
		},
		{
			text: "A node with an older program than the state joins no cluster and comes up in none",
			in:   "nodeUp, CheckReader", note: "test/operate upgrades between two builds: with one version there is no older program",
		},
		{
			text:    "There is no drill without consent",
			in:      "drillStarted",
			without: []change{{drill, "case !SettingsOf(t.tables.settings).DrillConsent:", "case false:"}},
			test:    "fsm.TestOneDrillAtATimeAndWithConsent", says: "a drill without consent",
		},
		{
			text:    "One drill at a time",
			in:      "drillStarted",
			without: []change{{drill, "case running != nil && t.event.Time < running.Until:", "case running != nil && false:"}},
			test:    "fsm.TestOneDrillAtATimeAndWithConsent", says: "a second drill",
		},
		{
			text:    "A fault that is called off before it began doesn't begin",
			in:      "heal",
			without: []change{{fault, "\ts.callOff()\n", ""}},
			test:    "cluster.TestFaultCalledOff", says: "all the same",
		},
		{
			text:    "Nor does one whose drill has run out",
			in:      "suffer",
			without: []change{{fault, " || c.Now().UnixNano() > drill.Until", ""}},
			test:    "cluster.TestFaultCalledOff", says: "a fault after the end of its drill",
		},
	}
}
