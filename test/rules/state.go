package main

func stateRules() []rule {
	return []rule{
		{
			text:    "Digests are kept for each replicated family and agree with its rows",
			in:      "tx.put",
			without: []change{{"fsm/tx.go", "\tif old != nil {\n\t\tt.digests.remove(key, rowHash(key, old))\n\t}\n", ""}},
			test:    "fsm.TestTwoRoutesToTheSameState", says: "digest",
		},
		{
			text:    "What Apply knows of upper and lower case is ASCII: the tables of Unicode differ between programs",
			in:      "SplitAddress",
			without: []change{{"relay/address.go", "lowerASCII(address[at+1:]), nil", "strings.ToLower(address[at+1:]), nil"}},
			test:    "fsm.TestDomainsAreFoldedAsASCII", says: "the report goes to domain",
		},
		{
			text:    "No words of a library come into a result",
			in:      "takeChange",
			without: []change{{"fsm/apply_configuration.go", "can't be read: this node's log says why\", id)", "can't be read: %v\", id, err)"}},
			test:    "fsm.TestResultsAreTheSameInAnyBuild", says: "can't be read",
		},
		{
			text:    "Nor do characters that only some versions of Unicode have",
			in:      "refused",
			without: []change{{"fsm/apply.go", "Text: inASCII(fmt.Sprintf(format, args...))", "Text: fmt.Sprintf(format, args...)"}},
			test:    "fsm.TestResultsAreTheSameInAnyBuild", says: "no domain",
		},
		{
			text:    "A refused event names the first of its late fields, in the order in which they are declared",
			in:      "dates.later",
			without: []change{{"fsm/version.go", "\tfor i := range fields.Len() {\n\t\tfield := fields.Get(i)\n\t\tif !m.Has(field) {", "\tfor i := range fields.Len() {\n\t\tfield := fields.Get(fields.Len() - 1 - i)\n\t\tif !m.Has(field) {"}},
			test:    "fsm.TestLateFieldsAreNamedInOrder", says: "want the first",
		},
		{
			text:    "The past of configuration that was removed goes with the log's retention",
			in:      "sweepTablePast",
			without: []change{{"fsm/apply_prune.go", "\tt.sweepTablePast(min(left, maxSwept))\n", ""}},
			test:    "fsm.TestPruneForgetsWhatWasRemoved", says: "rows are left",
		},
		{
			text:    "What was within the retention stays as it was",
			in:      "isBeforeRetention",
			without: []change{{"fsm/past.go", "past[len(past)-8:]) <= forgotten\n", "past[len(past)-8:]) <= forgotten+10\n"}},
			test:    "fsm.TestPruneForgetsWhatWasRemoved", says: "domains",
		},
		{
			text:    "An entry that is applied already is skipped",
			in:      "applyEntry",
			without: []change{{"fsm/apply.go", "if entry.Index <= t.applied.Index {", "if false {"}},
			test:    "fsm.TestAppliedEntriesAreSkipped", says: "skipped entry",
		},
		{
			text:    "The log is truncated only behind what a flush has brought to disk",
			in:      "Persist",
			without: []change{{"fsm/snapshot.go", "\tdone, err := l.gen.db.AsyncFlush()\n", "\tif true {\n\t\treturn nil\n\t}\n\tdone, err := l.gen.db.AsyncFlush()\n"}},
			test:    "fsm.TestCrashWhileFolding", says: "crash_test.go",
		},
		{
			text:    "A received state is whole on disk before CURRENT names it",
			in:      "restore",
			without: []change{{"fsm/install.go", "\tif err := syncDir(fs, s.cfg.Dir); err != nil {\n\t\treturn err\n\t}\n\tif err := writeCurrent(s.cfg, number); err != nil {", "\tif err := writeCurrent(s.cfg, number); err != nil {"}},
			test:    "fsm.TestCrashAtEachStepOfAnInstall", says: "crash_test.go",
		},
		{
			text:    "CURRENT moves in one step, to a file that is on disk",
			in:      "writeCurrent",
			without: []change{{"fsm/generation.go", "if err := errorOf(file.Sync(), file.Close()); err != nil {\n\t\treturn fmt.Errorf(\"write %s: %w\", currentFile, err)\n\t}\n\tif err := cfg.FS.Rename", "if err := file.Close(); err != nil {\n\t\treturn fmt.Errorf(\"write %s: %w\", currentFile, err)\n\t}\n\tif err := cfg.FS.Rename"}},
			test:    "fsm.TestCrashAtEachStepOfAnInstall", says: "crash_test.go",
		},
		{
			text:    "A data folder that lacks its generation is damage, not a new one",
			in:      "currentGeneration",
			without: []change{{"fsm/generation.go", "case number > 1 && !slices.Contains(names, generationName(number)):", "case false:"}},
			test:    "fsm.TestDamagedFolder", says: "refusal_test.go",
		},
		{
			text:    "A log that the received state has overtaken is dropped at the start",
			in:      "reconcile",
			without: []change{{"cluster/logstore.go", "case last > 0 && last < applied:", "case false:"}},
			test:    "cluster.TestStateAheadOfLog", says: "identity_test.go",
		},
		{
			text:    "A log that begins behind the end of the state is damage",
			in:      "reconcile",
			without: []change{{"cluster/logstore.go", "case first > applied+1:", "case false:"}},
			test:    "cluster.TestDataFolderChecks", says: "identity_test.go",
		},
		{
			text:    "Log and votes carry the same store id",
			in:      "checkID",
			without: []change{{"cluster/logstore.go", "\t} else if string(id) != raftID {\n", "\t} else if false {\n"}},
			test:    "cluster.TestDataFolderChecks", says: "identity_test.go",
		},
		{
			text:    "Every connection between nodes checks the cluster id",
			in:      "meet",
			without: []change{{"cluster/cluster.go", "\t\treturn fmt.Errorf(\"cluster id %s is foreign, this node belongs to %s\", id, c.identity.ClusterID)\n", "\t\treturn nil\n"}},
			test:    "cluster.TestForeignCluster", says: "identity_test.go",
		},
		{
			text:    "A second data folder under a name that is up is refused",
			in:      "checkGone",
			without: []change{{"cluster/join.go", "if record, ok := c.cfg.State.Node(node); ok && record.Active && record.RaftId == string(predecessor.ID) {", "if record, ok := c.cfg.State.Node(node); ok && record.Active && false {"}},
			test:    "cluster.TestSecondDataFolderRefused", says: "identity_test.go",
		},
		{
			text:    "A node that was removed stops, and comes in again only with an empty data folder",
			in:      "wasRemoved",
			without: []change{{"cluster/join.go", "answer.RaftId == req.RaftId && answer.HasData\n", "answer.RaftId == req.RaftId && answer.HasData && false\n"}},
			test:    "cluster.TestRemovedNodeStaysOut", says: "the removed node goes on",
		},
		{
			text:    "A change is in effect everywhere once all have it that the leader hasn't declared down, whoever reaches them",
			in:      "waitFor",
			without: []change{{"cluster/progress.go", "!ok || !current.Active {", "!ok || !current.Active || err != nil {"}},
			test:    "cluster.TestWaitEverywhereForWhomOnlyTheLeaderReaches", says: "a node that it can't ask",
		},
		{
			text:    "A transfer of leadership that failed isn't repeated before the server has caught up: raft would take nothing until then",
			in:      "giveTo",
			without: []change{{"cluster/change.go", "\tif c.transfers.hasFailed(term, server.ID) {\n", "\tif false {\n"}},
			test:    "cluster.TestTransferToFollowerThatInstalls", says: "proposes",
		},
		{
			text:    "The log stays while a follower that was sent the state catches up",
			in:      "trailingLogs",
			without: []change{{"cluster/compact.go", "\treturn math.MaxUint64\n}", "\treturn min(trailing, math.MaxUint64)\n}"}},
			test:    "cluster.TestLogStaysWhileFollowerInstalls", says: "the follower will need",
			note: "a new leader forgets it: see decisions/0012",
		},
		{
			text:    "But not for a follower that is silent",
			in:      "need",
			without: []change{{"cluster/catchup.go", " || f.contact < since {", " {"}},
			test:    "cluster.TestCatchUps", says: "silent",
		},
		{
			text:    "Apply lowers the owner's cursor to the smallest key that it inserts",
			in:      "absorb",
			without: []change{{"delivery/scheduler.go", "\t\t\t\tq.lanes[i].lower(key)\n", "\t\t\t\t_ = i\n"}},
			test:    "delivery.TestNewMailBehindTheCursor", says: "behind the cursor is missed",
		},
		{
			text:    "A change of owner resets the cursor",
			in:      "refresh",
			without: []change{{"delivery/scheduler.go", "\t\tq.ownedSince = s.cfg.Now()\n\t\tq.rewind()\n", "\t\tq.ownedSince = s.cfg.Now()\n"}},
			test:    "delivery.TestCursorIsReset", says: "outlasts a change of ownership",
		},
		{
			text:    "A state that is replaced as a whole resets all cursors",
			in:      "resync",
			without: []change{{"delivery/scheduler.go", "\t\tq.rewind()\n\t\tfor i := range q.lanes {", "\t\tfor i := range q.lanes {"}},
			test:    "delivery.TestCursorIsReset", says: "outlasts a state that was replaced",
		},
		{
			text:    "Apply never waits for a consumer",
			in:      "kick",
			without: []change{{"fsm/feed.go", "\tselect {\n\tcase c <- struct{}{}:\n\tdefault:\n\t}\n", "\tc <- struct{}{}\n"}},
			test:    "fsm.TestAbortAfterTheAcceptance", says: "test timed out",
		},
		{
			text: "An old log and an old state load",
			in:   "`fsm/testdata`",
			note: "`fsm` TestRecordedLogs folds them and compares digests",
		},
		{
			text:    "A failed write, flush or sync of the state ends the node",
			in:      "ApplyBatch, failFast",
			without: []change{{"fsm/failfast.go", "\tf.fatal(reason)\n", "\t_ = reason\n"}},
			test:    "fsm.TestFailFast", says: "failfast_test.go",
		},
	}
}
