package admin_test

import (
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
)

// TestCauses follows one message through what can keep it.
func TestCauses(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Minute, "s@x.test", "r@one.test")
	c := dial(t, w)
	owner := map[uint64]string{1: "a", 2: "b"}[w.Owner("one")]
	recipient := func() *pb.MessageRecipient {
		t.Helper()
		got, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id.String()})
		if err != nil {
			t.Fatal(err)
		}
		return got.Message.Recipients[0]
	}
	want := func(causes ...string) {
		t.Helper()
		if got := recipient().Causes; strings.Join(got, "\n") != strings.Join(causes, "\n") {
			t.Errorf("causes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(causes, "\n"))
		}
	}

	want("due since 2026-01-02T03:03:05Z, waiting for its turn: node " + owner + " has 0 of 20 slots of destination one in use")

	w.Claim(1, id, "one")
	want("attempt under way: claimed by node " + owner + " since 2026-01-02T03:04:05Z")
	if r := recipient(); r.NextAttempt != nil {
		t.Errorf("next attempt %v during an attempt", r.NextAttempt)
	}

	w.Defer(1, id, "one", 15*time.Minute)
	want("last attempt failed at 2026-01-02T03:04:05Z (mail.one.test:25: deferred at rcpt: 450 4.7.1 greylisted, come back later)",
		"next attempt at 2026-01-02T03:19:05Z")
	r := recipient()
	if r.Attempts != 1 || r.LastError.Code != 450 || r.LastError.Text != "greylisted, come back later" {
		t.Errorf("recipient %v", r)
	}
	if expires := admintest.Now.Add(-time.Minute).Add(5 * 24 * time.Hour); !r.ExpiresAt.AsTime().Equal(expires) {
		t.Errorf("expires at %v, want %v", r.ExpiresAt.AsTime(), expires)
	}

	w.Claim(2, id, "one")
	own := &pb.Failure{
		Cause: "rejected", Phase: "mail", Host: "mail.one.test:25", Code: 554, Enhanced: "5.6.1", Text: "too modern for it",
		At: admintest.Now.UnixNano(), Own: true,
	}
	w.FoldAs(w.Owner("one"), 0, &pb.Event{Kind: &pb.Event_AttemptFailed{AttemptFailed: &pb.AttemptFailed{
		Claim: &pb.ClaimRef{Incarnation: w.Owner("one"), Attempt: 2}, MessageId: id[:], Uncounted: true,
		Recipients: []*pb.AttemptFailed_Recipient{{Failure: own, NextAttempt: admintest.Now.Add(15 * time.Minute).UnixNano()}},
	}}}, nil)
	want("last attempt failed at 2026-01-02T03:04:05Z (mail.one.test:25: rejected at mail, not sent: too modern for it)",
		"next attempt at 2026-01-02T03:19:05Z")
	if e := recipient().LastError; e.Code != 0 || e.Enhanced != "" || e.Text != own.Text {
		t.Errorf("last error %v: nobody has answered so", e)
	}

	w.BringDown("one")
	prober := map[uint64]string{1: "a", 2: "b"}[w.Owner("one")]
	want("destination one is down since 2026-01-02T03:04:05Z (mail.one.test:25: refused at connect: connection refused)",
		"next probe at 2026-01-02T03:04:10Z by node "+prober)
	r = recipient()
	if !r.NextAttempt.AsTime().Equal(admintest.Now.Add(5*time.Second)) || r.LastError.Cause != "refused" {
		t.Errorf("recipient of a destination that is down: %v", r)
	}

	if _, err := c.RetryDestination(t.Context(), &pb.RetryDestinationRequest{Name: "one"}); err != nil {
		t.Fatal(err)
	}
	want("destination one is down since 2026-01-02T03:04:05Z (mail.one.test:25: refused at connect: connection refused)",
		"next probe at 2026-01-02T03:04:05Z by node "+prober)
}

// What the latest failure said of the next attempt gives way to what really comes:
// the destination's probe while it is down, nothing while it is suspended.
func TestWhatComesNext(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Minute, "s@x.test", "r@one.test")
	c := dial(t, w)
	w.Claim(1, id, "one")
	w.Defer(1, id, "one", 15*time.Minute)
	w.Claim(2, id, "one")
	w.Defer(2, id, "one", 20*time.Minute)
	want := func(at time.Duration, why string) {
		t.Helper()
		r, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id.String()})
		if err != nil {
			t.Fatal(err)
		}
		earlier, last := r.History[len(r.History)-2], r.History[len(r.History)-1]
		if at == 0 {
			if last.NextAttempt != nil || r.Message.Recipients[0].NextAttempt != nil {
				t.Errorf("next attempt %v, %v, want none", last.NextAttempt, r.Message.Recipients[0].NextAttempt)
			}
		} else if next := admintest.Now.Add(at); !last.NextAttempt.AsTime().Equal(next) || !r.Message.Recipients[0].NextAttempt.AsTime().Equal(next) {
			t.Errorf("next attempt %v, %v, want %v", last.NextAttempt.AsTime(), r.Message.Recipients[0].NextAttempt.AsTime(), next)
		}
		if last.Text != why {
			t.Errorf("it says %q, want %q", last.Text, why)
		}
		if !earlier.NextAttempt.AsTime().Equal(admintest.Now.Add(15*time.Minute)) || earlier.Text != "" {
			t.Errorf("an earlier failure says %v", earlier)
		}
	}
	suspend := func() {
		t.Helper()
		if _, err := c.SuspendDestination(t.Context(), &pb.SuspendDestinationRequest{Name: "one"}); err != nil {
			t.Fatal(err)
		}
		want(0, "no attempt is made until destination one is resumed")
		if _, err := c.ResumeDestination(t.Context(), &pb.ResumeDestinationRequest{Name: "one"}); err != nil {
			t.Fatal(err)
		}
	}
	want(20*time.Minute, "")
	suspend()
	want(20*time.Minute, "")
	w.BringDown("one")
	want(5*time.Second, "destination one is down: what comes next is its probe")
	suspend()
	want(5*time.Second, "destination one is down: what comes next is its probe")
}

// causesOf a message's first recipient.
func causesOf(t *testing.T, c client, id relay.MessageID) string {
	t.Helper()
	got, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id.String()})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(got.Message.Recipients[0].Causes, "\n")
}

func wantCauses(t *testing.T, c client, id relay.MessageID, want ...string) {
	t.Helper()
	if got := causesOf(t, c, id); got != strings.Join(want, "\n") {
		t.Errorf("causes\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestCauseNoSlot(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c, slots := dial(t, w), uint32(2)
	if _, err := c.SetDestination(t.Context(), &pb.SetDestinationRequest{Name: "one", Slots: &slots}); err != nil {
		t.Fatal(err)
	}
	owner := map[uint64]string{1: "a", 2: "b"}[w.Owner("one")]
	var tried []relay.MessageID
	for n := range uint64(2) {
		id := w.Accept(time.Minute, "s@x.test", "r@one.test")
		w.Claim(n+1, id, "one")
		tried = append(tried, id)
	}
	waits := w.Accept(time.Minute, "s@x.test", "r@one.test")
	wantCauses(t, c, waits, "due since 2026-01-02T03:03:05Z, no slot is free: all 2 of destination one on node "+owner+" are in use")
	w.Deliver(1, tried[0], "one")
	wantCauses(t, c, waits, "due since 2026-01-02T03:03:05Z, waiting for its turn: node "+owner+" has 1 of 2 slots of destination one in use")
	wantCauses(t, c, tried[0])
}

func TestCausesOfDestinations(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Minute, "s@x.test", "r@two.test")
	c := dial(t, w)
	nodes := map[uint64]string{1: "a", 2: "b"}

	first := w.Owner("two")
	fail := func(probes uint64) {
		w.FoldAs(w.Owner("two"), 0, &pb.Event{Kind: &pb.Event_DestinationFailed{DestinationFailed: &pb.DestinationFailed{
			Name: "two", Probes: probes, NextProbe: admintest.Now.UnixNano(),
			Failure: &pb.Failure{Cause: "timeout", Phase: "connect", Host: "mail.two.test:25", Text: "no answer in time", At: admintest.Now.UnixNano()},
		}}}, nil)
	}
	fail(0)
	wantCauses(t, c, id,
		"node "+nodes[first]+" could not reach destination two at 2026-01-02T03:04:05Z (mail.two.test:25: timeout at connect: no answer in time)",
		"next probe at 2026-01-02T03:04:05Z by node "+nodes[w.Owner("two")])

	fail(1)
	if _, err := c.SuspendDestination(t.Context(), &pb.SuspendDestinationRequest{Name: "two", Reason: "moving"}); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(causesOf(t, c, id), "\n")
	if len(got) != 2 || !strings.HasPrefix(got[0], "destination two is suspended since 2026-01-02T03:04:05Z by local user ") ||
		!strings.HasSuffix(got[0], " (moving): no attempt is made until it is resumed") ||
		!strings.HasPrefix(got[1], "destination two is down since 2026-01-02T03:04:05Z (") {
		t.Errorf("causes of a suspended destination that is down: %q", got)
	}
	// Nor is it probed, so nothing says when.
	shown, err := c.GetDestination(t.Context(), &pb.GetDestinationRequest{Name: "two"})
	if err != nil || shown.Destination.NextProbe != nil {
		t.Errorf("%v %v", shown, err)
	}
	if now, err := c.GetStatus(t.Context(), &pb.GetStatusRequest{}); err != nil || len(now.DestinationsDown) != 1 || now.DestinationsDown[0].NextProbe != nil {
		t.Errorf("%v %v", now, err)
	}
	if _, err := c.ResumeDestination(t.Context(), &pb.ResumeDestinationRequest{Name: "two"}); err != nil {
		t.Fatal(err)
	}

	prober := w.Owner("two")
	w.FoldAs(prober, 0, &pb.Event{Kind: &pb.Event_AttemptStarted{AttemptStarted: &pb.AttemptStarted{
		Claims: []*pb.AttemptStarted_Claim{{Attempt: 9, MessageId: id[:], Recipients: []uint32{0}, Destination: "two", Probe: true}},
	}}}, nil)
	wantCauses(t, c, id, "probe of destination two under way: claimed by node "+nodes[prober]+" since 2026-01-02T03:04:05Z")
}

func TestCausesOfWhatNobodyTries(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)

	died := w.Accept(time.Minute, "s@x.test", "r@one.test")
	w.Hold(died, "one")
	wantCauses(t, c, died, "held: no attempt is made until it is released",
		"2 of its attempts ended with the death of the node that made them")

	refused := w.Accept(time.Minute, "sender@nowhere.test", "gone@two.test")
	w.Bounce(1, refused, "two")
	list, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{Filter: &pb.MessageFilter{
		States: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_FROZEN},
	}})
	if err != nil || len(list.Messages) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	if got := list.Messages[0].Recipients[0].Causes; len(got) == 0 || got[0] != "frozen: it is a report, and a report that fails is not tried again by itself" {
		t.Errorf("causes of a frozen report: %q", got)
	}

	waits := w.Accept(time.Minute, "s@x.test", "r@one.test")
	for n, name := range []string{"a", "b"} {
		w.FoldAs(0, 0, &pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{Node: name, Incarnation: uint64(n + 1), Term: 1}}}, nil)
	}
	wantCauses(t, c, waits, "no node is up to deliver to destination one")
	w.LoseQuorum(admintest.ErrNoQuorum)
	wantCauses(t, c, waits, "this node has no quorum: nothing is delivered from it, and what it shows may be old",
		"no node is up to deliver to destination one")
}
