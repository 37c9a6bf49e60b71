package delivery

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// reports are the reports filed so far, as text.
func (w *world) reports(t *testing.T) []string {
	t.Helper()
	var all []string
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for i, e := range w.log.events {
		if e.GetDelayWarned() != nil || e.GetBounced().GetReport() != nil || e.GetDelivered().GetReport() != nil {
			all = append(all, string(w.log.payloads[i]))
		}
	}
	return all
}

// A sender is told once of a delay, of all recipients together; never of marked
// mail, where NOTIFY says otherwise, or where there is no sender.
func TestSendersAreWarnedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, grey := weeks(t, "five-day")
		w.must(w.any(), &pb.Event{Kind: &pb.Event_PolicySet{PolicySet: &pb.PolicySet{Policy: fsm.PolicyConfig(relay.Policy{
			Name: "warns", Retention: 48 * time.Hour, WarnAfter: 4 * time.Hour,
			Phases: []relay.RetryPhase{{Until: 48 * time.Hour, Every: time.Hour, Factor: 1}},
		})}}}, nil)
		w.follow("example.test", "dest", "warns")
		event, body := w.acceptance("boss@example.test", "Hello.\r\n",
			"one@example.test", "two@example.test", "never@example.test", "marked@example.test", "failure@example.test")
		recipients := event.GetMessageAccepted().Recipients
		recipients[1].Notify, recipients[2].Notify, recipients[4].Notify = "FAILURE,DELAY", "NEVER", "FAILURE"
		recipients[3].Spam = true
		w.must(w.any(), event, body)
		w.accept("", "one@example.test")
		w.accept("stranger@elsewhere.test", "one@example.test")
		w.runAll()
		pass(3 * time.Hour)
		if n := len(w.reports(t)); n != 0 {
			t.Errorf("%d reports after 3 hours", n)
		}
		pass(20 * time.Hour)
		grey.stop(w)
		warned := w.log.count(func(e *pb.Event) bool { return e.GetDelayWarned() != nil })
		if warned != 2 { // of the stranger's nothing is sent
			t.Errorf("%d warnings", warned)
		}
		var text string
		for _, report := range w.reports(t) {
			text += report
		}
		for _, want := range []string{
			"Action: delayed", "Final-Recipient: rfc822;one@example.test", "Final-Recipient: rfc822;two@example.test",
			"Will-Retry-Until: ", "Status: 4.7.1", "Subject: Delayed mail: not delivered after 4 hours, still trying",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in %s", want, text)
			}
		}
		for _, other := range []string{"never@", "marked@", "failure@", "Hello."} {
			if strings.Contains(text, other) {
				t.Errorf("the report has %q", other)
			}
		}
	})
}

// Each recipient is late by the policy of its own domain, if that warns at all: who is at
// another one isn't told of too early, and is told of in time.
func TestEachIsLateByItsOwnPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, grey := weeks(t, "five-day")
		for name, after := range map[string]time.Duration{"soon": 4 * time.Hour, "later": 24 * time.Hour, "never": 0} {
			w.must(w.any(), &pb.Event{Kind: &pb.Event_PolicySet{PolicySet: &pb.PolicySet{Policy: fsm.PolicyConfig(relay.Policy{
				Name: name, Retention: 48 * time.Hour, WarnAfter: after,
				Phases: []relay.RetryPhase{{Until: 48 * time.Hour, Every: time.Hour, Factor: 1}},
			})}}}, nil)
			w.follow(name+".test", "dest", name)
		}
		w.follow("example.test", "dest", "soon") // the sender's
		w.accept("boss@example.test", "user@soon.test", "user@later.test", "user@never.test")
		w.runAll()
		told := func(age time.Duration, want ...string) {
			var got []string
			for _, report := range w.reports(t) {
				for line := range strings.Lines(report) {
					if address, ok := strings.CutPrefix(strings.TrimSpace(line), "Final-Recipient: rfc822;user@"); ok {
						got = append(got, address)
					}
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("at the age of %s %q are said to be late, want %q", age, got, want)
			}
		}
		pass(23 * time.Hour)
		told(23*time.Hour, "soon.test")
		pass(3 * time.Hour)
		told(26*time.Hour, "soon.test", "later.test")
		grey.stop(w)
	})
}

func TestIsLate(t *testing.T) {
	policy := relay.Policy{WarnAfter: 4 * time.Hour}
	message := &pb.MessageRecord{Envelope: &pb.Envelope{From: testSender}, AcceptedAt: base.Add(-5 * time.Hour).UnixNano()}
	for name, tt := range map[string]struct {
		change func(*pb.RecipientRecord, *relay.Policy)
		want   bool
	}{
		"waits":                  {func(*pb.RecipientRecord, *relay.Policy) {}, true},
		"has ended":              {func(r *pb.RecipientRecord, _ *relay.Policy) { r.State = pb.RecipientState_RECIPIENT_STATE_BOUNCED }, false},
		"attempt under way":      {func(r *pb.RecipientRecord, _ *relay.Policy) { r.Claim = &pb.ClaimRef{Attempt: 1} }, false},
		"to be returned":         {func(r *pb.RecipientRecord, _ *relay.Policy) { r.Ordered = &pb.OperationRecord{} }, false},
		"told of":                {func(r *pb.RecipientRecord, _ *relay.Policy) { r.Warned = true }, false},
		"thawed an hour ago":     {func(r *pb.RecipientRecord, _ *relay.Policy) { r.RetentionFrom = base.Add(-time.Hour).UnixNano() }, false},
		"policy warns later":     {func(_ *pb.RecipientRecord, p *relay.Policy) { p.WarnAfter = 6 * time.Hour }, false},
		"policy warns of nobody": {func(_ *pb.RecipientRecord, p *relay.Policy) { p.WarnAfter = 0 }, false},
	} {
		record := &pb.RecipientRecord{State: pb.RecipientState_RECIPIENT_STATE_PENDING, Recipient: &pb.Recipient{Address: "user@example.test"}}
		policy := policy
		tt.change(record, &policy)
		if got := fixed(base, 0.5).isLate(message, record, policy); got != tt.want {
			t.Errorf("%s: late is %v", name, got)
		}
	}
}

// NOTIFY=SUCCESS is passed on to a next hop that takes it over; from one that
// doesn't, the sender hears that the message was relayed.
func TestRelayedIsReportedWhereAskedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		offer   []string
		notify  string
		from    string
		reports int
	}{
		"next hop without DSN":    {sink.OfferWithout("DSN"), "SUCCESS,FAILURE", testSender, 1},
		"next hop with DSN":       {sink.DefaultOffer(), "SUCCESS,FAILURE", testSender, 0},
		"not asked for":           {sink.OfferWithout("DSN"), "", testSender, 0},
		"never":                   {sink.OfferWithout("DSN"), "NEVER", testSender, 0},
		"null sender":             {sink.OfferWithout("DSN"), "SUCCESS", "", 0},
		"sender's domain unknown": {sink.OfferWithout("DSN"), "SUCCESS", "x@elsewhere.test", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			senders := w.sendersAt()
			s := w.sink(sink.Config{Offer: tt.offer})
			w.route("example.test", "dest", 2, s.Addr())
			w.runAll()
			event, body := w.acceptance(tt.from, "Hello.\r\n", "user@example.test")
			event.GetMessageAccepted().Recipients[0].Notify = tt.notify
			w.must(w.any(), event, body)
			w.awaitDelivered("dest", 1)
			w.awaitDelivered("origin", uint64(tt.reports))
			if got := senders.Stats().Committed; got != tt.reports {
				t.Errorf("%d reports arrived", got)
			}
			reports := w.reports(t)
			if len(reports) != tt.reports {
				t.Fatalf("%d reports", len(reports))
			}
			if tt.reports == 1 && (!strings.Contains(reports[0], "Action: relayed\r\nStatus: 2.0.0") || !strings.Contains(reports[0], "Remote-MTA: dns; [127.0.0.1]")) {
				t.Errorf("report %s", reports[0])
			}
		})
	}
}
