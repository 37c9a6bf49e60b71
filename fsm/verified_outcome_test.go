package fsm

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// claimed is a message whose recipient is being tried.
func (w *world) claimed(to string) (relay.MessageID, *pb.ClaimRef) {
	w.t.Helper()
	id := w.accept(1, to)
	w.attempts++
	w.must(1, claimOf(w.attempts, id, 0), nil)
	return id, ref(1, w.attempts)
}

// A delivery shows that a recipient is there. It is noted once less than half of its
// time is left, also where it was over, since rows go later than that.
func TestDeliveryKeepsARecipientValid(t *testing.T) {
	day := 24 * time.Hour
	for name, tt := range map[string]struct {
		verdict pb.Verdict
		good    time.Duration
		to      string
		verify  pb.Verify
		want    time.Duration // that it is good for afterwards
	}{
		"more than half is left":  {valid, 49 * time.Hour, "Ann@example.test", callout, 49 * time.Hour},
		"half is left":            {valid, 2 * day, "Ann@example.test", callout, 2 * day},
		"less than half is left":  {valid, 47 * time.Hour, "Ann@example.test", callout, 4 * day},
		"it was over":             {valid, -time.Hour, "Ann@example.test", callout, 4 * day},
		"another one's":           {valid, 47 * time.Hour, "ann@example.test", callout, 47 * time.Hour},
		"one that wasn't there":   {badUser, time.Hour, "Ann@example.test", callout, 0},
		"a domain that asks none": {valid, 47 * time.Hour, "Ann@example.test", pb.Verify_VERIFY_LISTED, 47 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			w := newVerifying(t)
			w.now = w.now.Add(-2 * time.Hour)
			w.verify("Ann", tt.verdict, unknown, tt.good+2*time.Hour)
			w.now = w.now.Add(2 * time.Hour)
			if tt.verify != callout {
				w.must(1, w.renewed(domainVerify("example.test", "dest", tt.verify)), nil)
			}
			id, claim := w.claimed(tt.to)
			w.must(1, delivered(claim, id, 0), nil)
			r := w.verified("Ann")
			if tt.want == 0 {
				if r != nil {
					t.Errorf("is still known as %v", r)
				}
				return
			}
			if left := time.Duration(r.GetUntil() - w.now.UnixNano()); left != tt.want || r.GetVerdict() != tt.verdict {
				t.Errorf("good for %s: %v, want %s", left, r, tt.want)
			}
			if (r.GetAt() == w.now.UnixNano()) != (tt.want == 4*day) {
				t.Errorf("of %s", time.Unix(0, r.GetAt()))
			}
			checkState(t, w.state)
		})
	}
}

func TestDeliveryMakesNoVerdict(t *testing.T) {
	w := newVerifying(t)
	w.deliver(w.accept(1, "Ann@example.test"), 0)
	w.checkVerdicts("after a delivery", map[string]pb.Verdict{"Ann": unknown, "": unknown})
	w.must(1, settingsChanged(&pb.Settings{VerifyValid: proto.Int64(int64(time.Hour))}), nil)
	w.verify("Ann", valid, unknown, time.Minute)
	w.deliver(w.accept(1, "Ann@example.test"), 0)
	if left := w.verified("Ann").GetUntil() - w.now.UnixNano(); left != int64(time.Hour) {
		t.Errorf("good for %s", time.Duration(left))
	}
}

func rejected(claim *pb.ClaimRef, id relay.MessageID, reason pb.Bounced_Reason, failure *pb.Failure) *pb.Event {
	return &pb.Event{Kind: &pb.Event_Bounced{Bounced: &pb.Bounced{
		Claim: claim, MessageId: id[:], Reason: reason, Recipients: []*pb.Bounced_Recipient{{Recipient: 0, Failure: failure}},
	}}}
}

// A destination that refuses a recipient at RCPT is believed at once: the next
// message to it is refused, too, and makes no report.
func TestRefusalEndsAValidRecipient(t *testing.T) {
	refusal := func(phase string, code uint32) *pb.Failure {
		failure := proto.CloneOf(noSuchUser)
		failure.Phase, failure.Code = phase, code
		return failure
	}
	ofSender, earlier := refusal("rcpt", 554), refusal("rcpt", 550)
	ofSender.Enhanced = "5.7.1"
	earlier.At--
	const returned, attempts = pb.Bounced_REASON_REJECTED, pb.Bounced_REASON_ATTEMPTS
	for name, tt := range map[string]struct {
		before  func(w *world)
		between func(w *world)
		reason  pb.Bounced_Reason
		failure *pb.Failure
		want    pb.Verdict
	}{
		"refused":                 {nil, nil, returned, noSuchUser, badUser},
		"refused for its content": {nil, nil, returned, refusal("dot", 554), valid},
		"refused for its sender":  {nil, nil, returned, ofSender, valid},
		"before it was asked for": {nil, nil, returned, earlier, valid},
		"deferred too often":      {nil, nil, attempts, refusal("rcpt", 450), valid},
		"deferred, then returned": {nil, nil, returned, refusal("rcpt", 450), valid},
		"without a reply":         {nil, nil, returned, nil, valid},
		"other hosts meanwhile":   {nil, (*world).moveDestination, returned, noSuchUser, valid},
		"other hosts before":      {(*world).moveDestination, nil, returned, noSuchUser, badUser},
		"another destination": {nil, func(w *world) {
			w.must(1, destinationSet("other"), nil)
			w.must(1, w.renewed(domainVerify("example.test", "other", callout)), nil)
		}, returned, noSuchUser, valid},
		"no call-outs any more": {nil, func(w *world) {
			w.must(1, w.renewed(domainVerify("example.test", "dest", pb.Verify_VERIFY_OFF)), nil)
		}, returned, noSuchUser, valid},
	} {
		t.Run(name, func(t *testing.T) {
			w := newVerifying(t)
			w.verify("Ann", valid, selective, 96*time.Hour)
			if tt.before != nil {
				tt.before(w)
			}
			id, claim := w.claimed("Ann@example.test")
			if tt.between != nil {
				tt.between(w)
			}
			w.must(1, rejected(claim, id, tt.reason, tt.failure), nil)
			r := w.verified("Ann")
			if r.GetVerdict() != tt.want {
				t.Errorf("%v, want %v", r, tt.want)
			}
			if tt.want == badUser && (r.Until != w.now.Add(2*time.Hour).UnixNano() || !proto.Equal(r.Failure, noSuchUser)) {
				t.Errorf("refused: %v", r)
			}
			checkState(t, w.state)
		})
	}
}

// A refusal by a destination that took any recipient shows that it doesn't any more,
// unless it was given before that was found out.
func TestRefusalEndsAcceptsAny(t *testing.T) {
	for ahead, want := range map[time.Duration]pb.Verdict{0: unknown, time.Second: acceptsAll} {
		w := newVerifying(t)
		w.now = w.now.Add(ahead)
		w.verify("", unknown, acceptsAll, 2*time.Hour)
		id, claim := w.claimed("Ann@example.test")
		w.must(1, rejected(claim, id, pb.Bounced_REASON_REJECTED, noSuchUser), nil)
		w.checkVerdicts(fmt.Sprint("refused, found out ", ahead, " later"), map[string]pb.Verdict{"": want, "Ann": unknown})
		checkState(t, w.state)
	}
}

// While a destination takes any recipient, nothing new is noted of single ones (R12).
func TestDeliveryBesideAcceptsAny(t *testing.T) {
	w := newVerifying(t)
	w.verify("Ann", valid, selective, time.Hour)
	until := w.verified("Ann").Until
	w.verify("", unknown, acceptsAll, 2*time.Hour)
	w.deliver(w.accept(1, "Ann@example.test"), 0)
	if r := w.verified("Ann"); r.GetUntil() != until {
		t.Errorf("renewed: %v", r)
	}
}

// A change of the domain, whatever it is, has all forgotten but who is valid; with the
// domain goes what is known of it.
func TestDomainForgets(t *testing.T) {
	w := newVerifying(t)
	know := func() {
		w.verify("Ann", valid, selective, time.Hour)
		w.verify("nobody", badUser, unknown, time.Hour)
		w.checkVerdicts("asked for", map[string]pb.Verdict{"Ann": valid, "nobody": badUser, "": selective})
	}
	know()
	w.must(1, w.renewed(domainVerify("example.test", "dest", callout)), nil)
	w.checkVerdicts("the domain was set", map[string]pb.Verdict{"Ann": valid, "nobody": unknown, "": unknown})
	know()
	w.must(1, domainRemoved("example.test"), nil)
	w.must(1, domainVerify("example.test", "dest", callout), nil)
	w.checkVerdicts("the domain was made anew", map[string]pb.Verdict{"Ann": unknown, "nobody": unknown, "": unknown})
	if found, err := w.view().VerifiedRecipients("example.test", "", 9, w.now); err != nil || len(found) > 0 {
		t.Errorf("the domain made anew has %v, %v", found, err)
	}
	checkState(t, w.state)
}

// Addresses that a domain takes without end push out nobody else's, and none of those
// that are known.
func TestDomainsHaveAShareOfVerdicts(t *testing.T) {
	w := newVerifying(t)
	w.state.caps.verified, w.state.caps.verifiedOfDomain = 10, 4
	w.must(1, domainVerify("other.test", "dest", callout), nil)
	other := w.verdict("Ann", valid, unknown, time.Hour)
	other.GetRecipientVerified().Domain = "other.test"
	w.must(1, other, nil)
	for i := range 20 {
		w.verify(fmt.Sprint("user+", i), valid, unknown, 96*time.Hour)
	}
	w.checkVerdicts("after the flood", map[string]pb.Verdict{"user+0": valid, "user+3": valid, "user+4": unknown, "user+19": unknown})
	if r, err := w.state.Verified("other.test", "Ann", w.now); err != nil || r.GetVerdict() != valid {
		t.Errorf("of another domain: %v, %v", r, err)
	}
	w.verify("user+0", badUser, unknown, time.Hour)
	w.checkVerdicts("asked for anew", map[string]pb.Verdict{"user+0": badUser})
	checkState(t, w.state)
}

// Mail that goes elsewhere than its domain's does, since the domain's was moved or an
// operator redirected it, shows nothing of the recipient there.
func TestMailThatGoesElsewhereVerifiesNobody(t *testing.T) {
	for name, elsewhere := range map[string]func(w *world, id relay.MessageID){
		"the domain was moved": func(w *world, _ relay.MessageID) {
			w.must(1, w.renewed(domainVerify("example.test", "other", callout)), nil)
		},
		"redirected": func(w *world, id relay.MessageID) {
			w.must(1, operated(&pb.Operation{Kind: pb.Operation_KIND_REDIRECT, Destination: "other", By: "root"}, id, 0), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newVerifying(t)
			w.must(1, destinationSet("other"), nil)
			w.verify("Ann", valid, unknown, time.Hour)
			before := w.verified("Ann")
			ids := []relay.MessageID{w.accept(1, "Ann@example.test"), w.accept(1, "Ann@example.test")}
			for i, id := range ids {
				elsewhere(w, id)
				event := claimOf(uint64(i+1), id, 0)
				event.GetAttemptStarted().Claims[0].Destination = w.recipientOf(id, 0).Destination
				w.must(1, event, nil)
			}
			w.must(1, delivered(ref(1, 1), ids[0], 0), nil)
			w.must(1, rejected(ref(1, 2), ids[1], pb.Bounced_REASON_REJECTED, noSuchUser), nil)
			if r := w.verified("Ann"); !proto.Equal(r, before) {
				t.Errorf("%v, was %v", r, before)
			}
		})
	}
}

func TestRefusalOfSpamEndsAValidRecipient(t *testing.T) {
	for reason, want := range map[pb.Dropped_Reason]pb.Verdict{
		pb.Dropped_REASON_REJECTED: badUser, pb.Dropped_REASON_EXPIRED: valid,
	} {
		w := newVerifying(t)
		w.must(1, settingsChanged(&pb.Settings{VerifyInvalid: proto.Int64(int64(time.Hour))}), nil)
		w.verify("Ann", valid, selective, 96*time.Hour)
		id := w.newID()
		event := accepted(id, testBody, "sender@elsewhere.test", "Ann@example.test", "bob@example.test")
		for _, r := range event.GetMessageAccepted().Recipients {
			r.Spam = true
		}
		w.must(1, event, testBody)
		w.must(1, claimOf(1, id, 0, 1), nil)
		drop := dropped(ref(1, 1), id, 0, 1)
		drop.GetDropped().Reason = reason
		for _, r := range drop.GetDropped().Recipients {
			r.Failure = noSuchUser
		}
		w.must(1, drop, nil)
		// Of one that nobody had asked for nothing is kept.
		w.checkVerdicts(reason.String(), map[string]pb.Verdict{"Ann": want, "bob": unknown})
		if r := w.verified("Ann"); want == badUser && r.Until != w.now.Add(time.Hour).UnixNano() {
			t.Errorf("%v isn't good for an hour", r)
		}
	}
}
