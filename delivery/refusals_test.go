package delivery

import (
	"strings"
	"testing"
	"time"

	"holdfast/delivery/smtpout"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// A peer that gives everybody the same 4xx can't take mail: one outage, whose
// probes don't take the answer for health, no attempt counted from then on, and
// all goes out when it takes mail again.
func TestSameRefusalForEverybody(t *testing.T) {
	for _, verb := range []string{"MAIL", sink.Dot} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			const messages = 40
			w := newWorld(t, "a", "b")
			s := w.sink(sink.Config{Answer: sink.On(verb, sink.Reply{Code: 452, Enhanced: "4.3.1", Text: "disk full"})})
			w.route("example.test", "dest", 5, s.Addr())
			ids := w.acceptMany(messages, "example.test")
			w.runAll()
			w.await("the destination is down", func() bool {
				return w.health("dest").State == pb.DestinationHealth_STATE_DOWN
			})
			w.await("some probes", func() bool { return w.health("dest").Failed >= 6 })
			if f := w.health("dest").Failure; f.Code != 452 || f.Text != "disk full" {
				t.Errorf("down for %v", f)
			}
			attempted := 0
			for _, id := range ids {
				attempted += int(w.recipient(id, 0).Attempts)
			}
			// The row, and what was under way beside its last.
			if attempted < refusalsInARow-1 || attempted > refusalsInARow+5 {
				t.Errorf("%d attempts count, want about %d", attempted, refusalsInARow)
			}
			s.SetAnswer(nil)
			w.await("it is up", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_UP })
			w.retryAll()
			w.awaitDelivered("dest", messages)
			w.checkOnce(ids, s)
		})
	}
}

// retryAll makes all messages due now.
func (w *world) retryAll() {
	w.t.Helper()
	retry := &pb.Operated{Operation: &pb.Operation{Kind: pb.Operation_KIND_RETRY, By: "test"}}
	for _, id := range w.log.accepted() {
		retry.Targets = append(retry.Targets, &pb.Target{MessageId: id, Recipients: []uint32{0}})
	}
	w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: retry}}, nil)
}

// accepted lists the messages of the log.
func (l *testLog) accepted() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids [][]byte
	for _, e := range l.events {
		if m := e.GetMessageAccepted(); m != nil {
			ids = append(ids, m.MessageId)
		}
	}
	return ids
}

// Greylisting refuses each sender and recipient once with the same words. That
// is no outage, however many messages meet it.
func TestGreylistingIsNoOutage(t *testing.T) {
	t.Parallel()
	const messages = 3 * refusalsInARow
	w := newWorld(t, "a", "b")
	s := w.sink(sink.Config{Answer: sink.On("RCPT", sink.Reply{Code: 450, Enhanced: "4.2.0", Text: "greylisted"})})
	w.route("example.test", "dest", 5, s.Addr())
	ids := w.acceptMany(messages, "example.test")
	w.runAll()
	w.await("each was refused once", func() bool {
		return w.log.count(func(e *pb.Event) bool { return e.GetAttemptFailed() != nil }) == messages
	})
	if health := w.health("dest"); health.Probes != 0 {
		t.Errorf("an outage was declared: %v", health.Failure)
	}
	for _, id := range ids {
		if r := w.recipient(id, 0); r.Attempts != 1 {
			t.Errorf("%d attempts count", r.Attempts)
		}
	}
	s.SetAnswer(nil)
	w.retryAll()
	w.awaitDelivered("dest", messages)
	w.checkOnce(ids, s)
}

// A host that refuses everybody is left for one that doesn't.
func TestRefusingHostIsAvoided(t *testing.T) {
	t.Parallel()
	const messages = 60
	w := newWorld(t, "a", "b")
	bad := w.sink(sink.Config{Answer: sink.On("MAIL", sink.Reply{Code: 452, Enhanced: "4.3.1", Text: "disk full"})})
	good := w.sink(sink.Config{})
	w.route("example.test", "dest", 2, bad.Addr(), good.Addr())
	w.acceptMany(messages, "example.test")
	w.runAll()
	w.await("the second host has what the first one didn't see", func() bool {
		return w.counter("dest").Delivered >= messages-refusalsInARow-2
	})
	if health := w.health("dest"); health.Probes != 0 {
		t.Errorf("an outage was declared: %v", health.Failure)
	}
	w.retryAll()
	w.awaitDelivered("dest", messages)
}

// A message that makes the server hang up takes nobody with it.
func TestPoisonousMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	s := w.sink(sink.Config{Offer: sink.OfferWithout("CHUNKING"), Answer: func(step sink.Step) sink.Reply {
		if step.Verb == "DATA" && step.Message != nil && strings.HasPrefix(step.Message.Recipients[0].Address, "poison") {
			return sink.Reply{Hangup: true}
		}
		return sink.Reply{}
	}})
	w.route("example.test", "dest", 5, s.Addr())
	poison := w.accept(testSender, "poison@example.test")
	ids := w.acceptMany(50, "example.test")
	w.runAll()
	w.awaitDelivered("dest", 50)
	w.checkOnce(ids, s)
	w.await("the message waits for its own turn", func() bool { return w.recipient(poison, 0).Attempts == 1 })
	if r := w.recipient(poison, 0); r.State != pb.RecipientState_RECIPIENT_STATE_PENDING || r.LastError.Phase != "data" {
		t.Errorf("it is %s after %v", r.State, r.LastError)
	}
	if health := w.health("dest"); health.Probes != 0 {
		t.Errorf("an outage was declared: %v", health.Failure)
	}
}

func TestRefusals(t *testing.T) {
	answer := func(host string, n byte, phase relay.Phase, code int, attempts uint32, age time.Duration) *attempt {
		a := &attempt{
			id: relay.MessageID{n}, ended: base, message: &pb.MessageRecord{AcceptedAt: base.Add(-age).UnixNano()},
			recipients: []*pb.RecipientRecord{{Attempts: attempts}},
		}
		a.result = smtpout.Result{Host: host, Outcomes: []smtpout.Outcome{{}}}
		if code != 0 {
			a.result.Outcomes[0].Failure = &relay.Failure{Phase: phase, Code: code, Cause: relay.CauseDeferred}
		}
		return a
	}
	r := make(refusals)
	full := func(a *attempt) bool { return r.learn(a, a.refusal()) }
	for n := range byte(refusalsInARow - 1) {
		if full(answer("x", n, relay.PhaseMail, 452, 0, 0)) {
			t.Fatalf("full with %d", n+1)
		}
	}
	if full(answer("x", 0, relay.PhaseMail, 452, 0, 0)) {
		t.Error("full with a message that was in it")
	}
	if full(answer("y", 99, relay.PhaseMail, 452, 0, 0)) {
		t.Error("full with the answer of another host")
	}
	if !full(answer("x", 50, relay.PhaseMail, 452, 0, 0)) || !full(answer("x", 51, relay.PhaseMail, 452, 0, 0)) {
		t.Error("not full with ten")
	}
	if full(answer("x", 52, relay.PhaseMail, 451, 0, 0)) {
		t.Error("full with another answer")
	}
	if full(answer("x", 53, "", 0, 0, 0)); len(r["x"].messagesOf()) != 0 {
		t.Error("a success ends no row")
	}
	for n := range byte(2 * refusalsInARow) {
		if full(answer("x", n, relay.PhaseRcpt, 450, 0, 2*time.Hour)) || full(answer("x", n, relay.PhaseRcpt, 450, 3, time.Minute)) {
			t.Fatal("what may be greylisting fills a row")
		}
	}
	last := false
	for n := range byte(refusalsInARow) {
		last = full(answer("x", n, relay.PhaseRcpt, 450, 1, 2*time.Hour))
	}
	if !last {
		t.Error("messages that were refused before fill no row")
	}
}

func (r *row) messagesOf() map[relay.MessageID]bool {
	if r == nil {
		return nil
	}
	return r.messages
}

// A suspended destination gets nothing new, and everything once it is resumed.
func TestSuspendedDestination(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	s := w.sink(sink.Config{})
	w.route("example.test", "dest", 5, s.Addr())
	w.runAll()
	w.acceptMany(20, "example.test")
	w.awaitDelivered("dest", 20)
	answer, reached, release := holdAt(sink.Dot)
	s.SetAnswer(answer)
	w.accept(testSender, "held@example.test")
	w.receive("a delivery is under way", reached)
	w.must(w.any(), &pb.Event{Kind: &pb.Event_DestinationSuspended{DestinationSuspended: &pb.DestinationSuspended{Name: "dest", By: "root"}}}, nil)
	ids := w.acceptMany(20, "example.test")
	must(t, s.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Open == 1 })) // the idle ones are closed
	close(release)
	w.awaitDelivered("dest", 21)
	must(t, s.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Open == 0 }))
	if n := w.counter("dest").Pending; n != 20 {
		t.Errorf("%d recipients wait", n)
	}
	s.SetAnswer(nil)
	w.must(w.any(), &pb.Event{Kind: &pb.Event_DestinationResumed{DestinationResumed: &pb.DestinationResumed{Name: "dest", By: "root"}}}, nil)
	w.awaitDelivered("dest", 41)
	w.checkOnce(ids, s)
}

// The hosts are those of MX records, the best first.
func TestDeliveryByMX(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.resolver = names{}
	s := w.sink(sink.Config{})
	w.dialTo = map[string]string{"127.0.0.1:25": s.Addr()}
	w.set(&pb.DestinationConfig{Name: "dest", Slots: 5, Tls: "none", Mx: "mail.test", ProbeMax: int64(probeMax)})
	w.route("example.test", "dest", 0)
	ids := w.acceptMany(30, "example.test")
	w.runAll()
	w.awaitDelivered("dest", 30)
	w.checkOnce(ids, s)
	if health := w.health("dest"); health.Probes != 0 {
		t.Errorf("an outage was declared: %v", health.Failure)
	}
}

// A destination that defers a flood of spam is no outage: neither what the
// domain's rules marked, nor what a filter of its own defers for its content.
func TestDeferredSpamIsNoOutage(t *testing.T) {
	for _, tt := range []struct {
		name     string
		enhanced string
		marked   bool
	}{
		{"marked", "4.3.0", true},
		{"by a policy of its own", "4.7.1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const messages = 3 * refusalsInARow
			w := newWorld(t, "a", "b")
			s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
				if step.Verb == sink.Dot && strings.HasPrefix(step.Message.Recipients[0].Address, "spammed") {
					return sink.Reply{Code: 451, Enhanced: tt.enhanced, Text: "looks like spam"}
				}
				return sink.Reply{}
			}})
			w.route("example.test", "dest", 5, s.Addr())
			for range messages {
				event, body := w.acceptance(testSender, "Buy.\r\n", "spammed@example.test")
				event.GetMessageAccepted().Recipients[0].Spam = tt.marked
				w.must(w.any(), event, body)
			}
			w.runAll()
			w.await("each was deferred once", func() bool {
				return w.log.count(func(e *pb.Event) bool { return e.GetAttemptFailed() != nil }) == messages
			})
			if health := w.health("dest"); health.Probes != 0 {
				t.Errorf("an outage was declared: %v", health.Failure)
			}
			fresh := w.accept(testSender, "user@example.test")
			w.awaitDelivered("dest", 1)
			w.checkOnce([]relay.MessageID{fresh}, s)
		})
	}
}
