package main

const (
	verdicts   = "fsm/apply_verified.go"
	bounceFile = "fsm/apply_bounce.go"
)

func recipients() []rule {
	return []rule{
		{
			text:    "A verdict counts only where mail to the domain still goes to the destination that was asked, as it was then",
			in:      "refuseVerdictOfOther",
			without: []change{{verdicts, "\tcase !t.tables.isPresent(e.Domain, e.Destination, e.Revision):\n", "\tcase false:\n"}},
			test:    "fsm.TestVerdictOfAnotherDestination", says: "a verdict from before the change",
		},
		{
			text:    "Nor does what is said while the domain is changed",
			in:      "stands",
			without: []change{{"delivery/callout_verdict.go", "domain.Revision == c.domainRevision &&", "true &&"}},
			test:    "delivery.TestCalloutOutlivesNoChange", says: "known as",
		},
		{
			text:    "What a destination refused before it was changed, or took from anybody, means nothing after",
			in:      "isGood",
			without: []change{{verdicts, "t.isPresent(domain, record.Destination, record.Revision)\n", "true\n"}},
			test:    "fsm.TestVerdictOfAnotherDestination", says: "after the change",
		},
		{
			text:    "That a recipient is valid survives a change of the destination",
			in:      "isGood",
			without: []change{{verdicts, "return record.Verdict == pb.Verdict_VERDICT_VALID ||\n", "return record.Verdict == pb.Verdict_VERDICT_VALID && t.isPresent(domain, record.Destination, record.Revision) ||\n"}},
			test:    "fsm.TestVerdictOfAnotherDestination", says: "after the change",
		},
		{
			text:    "A verdict that is over is as good as none, whether or not its row has gone",
			in:      "isGood",
			without: []change{{verdicts, "!ok || record.Until <= now {", "!ok {"}},
			test:    "fsm.TestVerdictsAreKept", says: "after two hours",
		},
		{
			text:    "What was found out earlier doesn't replace what is known since",
			in:      "isKnownSince",
			without: []change{{verdicts, " != nil && known.At > t.event.Time\n", " != nil && false\n"}},
			test:    "fsm.TestLaterWordCounts", says: "an earlier word",
		},
		{
			text:    "Verdicts are bounded",
			in:      "makeRoomForVerdicts",
			without: []change{{verdicts, "t.err == nil && t.digests[famVerified].rows+2 > t.s.caps.verified", "t.err == nil && t.digests[famVerified].rows+2 > 1000"}},
			test:    "fsm.TestVerdictsPushOutWhatEndsFirst", says: "10 at most",
		},
		{
			text:    "Those that are over first go first: made-up addresses push out each other",
			in:      "keyOfVerifiedUntil",
			without: []change{{verdicts, "uint64(until))\n", "uint64(until)*0)\n"}},
			test:    "fsm.TestVerdictsPushOutWhatEndsFirst", says: "after the flood",
		},
		{
			text:    "What is over goes as others come",
			in:      "makeRoomForVerdicts",
			without: []change{{verdicts, "t.keysOf(first, maxExpired)", "t.keysOf(first, 0)"}},
			test:    "fsm.TestVerdictsThatAreOverGo", says: "verdicts are kept after",
		},
		{
			text:    "Nothing is kept of single recipients of a domain that takes any",
			in:      "putVerdict",
			without: []change{{verdicts, "\tacceptsAny := t.acceptsAny(e.Domain)\n", "\tacceptsAny := t.acceptsAny(e.Domain) && false\n"}},
			test:    "fsm.TestAcceptsAny", says: "while any is taken",
		},
		{
			text:    "A refusal shows that a domain doesn't take any",
			in:      "putVerdict",
			without: []change{{verdicts, "\t\t\tt.dropVerified(ofDomain)\n\t\t\tacceptsAny", "\t\t\tacceptsAny"}},
			test:    "fsm.TestAcceptsAny", says: "after a refusal",
		},
		{
			text:    "So does one that a message meets",
			in:      "endValid",
			without: []change{{verdicts, "t.load(ofDomain, known); known.At <= failure.At {", "t.load(ofDomain, known); false {"}},
			test:    "fsm.TestRefusalEndsAcceptsAny", says: "found out 0s later",
		},
		{
			text:    "No domain has more than its share of verdicts",
			in:      "putVerified",
			without: []change{{verdicts, "if share.Verified >= t.s.caps.verifiedOfDomain || isForgotten(share, record) {", "if isForgotten(share, record) {"}},
			test:    "fsm.TestDomainsHaveAShareOfVerdicts", says: "after the flood",
		},
		{
			text:    "A change of the domain has forgotten whom its destination refused",
			in:      "isGood",
			without: []change{{verdicts, "record.Index > config.Revision && ", "config != nil && "}},
			test:    "fsm.TestDomainForgets", says: "the domain was set",
		},
		{
			text:    "What is known of a domain goes with it",
			in:      "dropDomain",
			without: []change{{"fsm/apply_domain.go", "\tt.forgetVerdicts(name)\n", ""}},
			test:    "fsm.TestDomainForgets", says: "the domain was made anew",
		},
		{
			text:    "The rows go when they are over: however many they are, the domain's removal touches none",
			in:      "forgetVerdicts",
			without: []change{{verdicts, "\tshare.Verified, share.ForgottenIndex = 0, t.index\n", "\tfor _, key := range t.keysOf(verifiedPrefix(domain), 1<<30) {\n\t\tt.dropVerified(key)\n\t}\n\tshare.ForgottenIndex = t.index\n"}},
			test:    "fsm.TestRemovedDomainLeavesItsVerdicts", says: "rows are kept",
		},
		{
			text:    "The domain made anew has a share of its own",
			in:      "forgetVerdicts",
			without: []change{{verdicts, "share.Verified, share.ForgottenIndex = 0, t.index", "share.ForgottenIndex = t.index"}},
			test:    "fsm.TestRemovedDomainLeavesItsVerdicts", says: "are counted",
		},
		{
			text:    "What comes in the entry that removed a domain was asked of that one",
			in:      "putVerified",
			without: []change{{verdicts, " || isForgotten(share, record) {", " {"}},
			test:    "fsm.TestDomainMadeAnewWithinAnEntry", says: "counter",
		},
		{
			text:    "A delivery keeps its recipient valid",
			in:      "keepValid",
			without: []change{{"fsm/apply_attempt.go", "\t\tt.keepValid(r)\n", ""}},
			test:    "fsm.TestDeliveryKeepsARecipientValid", says: "good for",
		},
		{
			text:    "But a row is written only where less than half of its time is left",
			in:      "keepValid",
			without: []change{{verdicts, "record.Until-t.event.Time < good/2", "record.Until-t.event.Time < good"}},
			test:    "fsm.TestDeliveryKeepsARecipientValid", says: "good for",
		},
		{
			text:    "A recipient that is refused at RCPT is valid no more",
			in:      "bounced",
			without: []change{{bounceFile, "\t\t\tt.endValid(r, e.Recipients[i].Failure)\n", ""}},
			test:    "fsm.TestRefusalEndsAValidRecipient", says: "verified_outcome_test.go",
		},
		{
			text:    "A refusal for the content or the sender, or a deferral, says nothing of the recipient",
			in:      "endValid",
			without: []change{{verdicts, "if failure.GetPhase() != string(relay.PhaseRcpt) || !relay.RefusesRecipient(int(failure.Code), failure.Enhanced) ||", "if failure == nil ||"}},
			test:    "fsm.TestRefusalEndsAValidRecipient", says: "verified_outcome_test.go",
		},
		{
			text:    "A refusal in an attempt that began before the destination was changed says nothing of it as it is now",
			in:      "endValid",
			without: []change{{verdicts, "!ok || r.rec.ClaimedIndex <= destination.Config.GetRevision() ||", "!ok ||"}},
			test:    "fsm.TestRefusalEndsAValidRecipient", says: "verified_outcome_test.go",
		},
		{
			text:    "What becomes of mail that goes elsewhere than its domain's says nothing of its recipient",
			in:      "knownRow",
			without: []change{{verdicts, " || config.Destination != r.rec.Destination || ", " || "}},
			test:    "fsm.TestMailThatGoesElsewhereVerifiesNobody", says: "verified_outcome_test.go",
		},
		{
			text:    "A domain takes along as many listed recipients as one event changes, and with more isn't removed",
			in:      "refuseDomainRemoval",
			without: []change{{"fsm/apply_domain.go", "c.Listed > MaxRecipientsChanged", "c.Listed > 2*MaxRecipientsChanged"}},
			test:    "fsm.TestRemovedDomainTakesItsListAlong", says: "with 1,001",
		},
		{
			text:    "A list is bounded",
			in:      "refuseRecipients",
			without: []change{{"fsm/apply_recipients.go", "len(added) > 0 && listed > most", "len(added) > 0 && listed > 2*most"}},
			test:    "fsm.TestListsHaveALimit", says: "beyond the limit",
		},
		{
			text:    "The way to other domains verifies no recipients: nobody here knows them",
			in:      "refuseVerify",
			without: []change{{"fsm/apply_domain.go", "\t\tif config.Name != relay.DefaultRoute {\n\t\t\treturn nil\n\t\t}\n", "\t\treturn nil\n"}},
			test:    "fsm.TestWaysToVerify", says: "recipients_test.go",
		},
	}
}
