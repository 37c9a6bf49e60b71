package delivery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// Every message arrives once, over few connections, whatever the timers do.
func TestDeliversEachOnce(t *testing.T) {
	const messages, slots = 200, 5
	quick := Timing{Reconcile: 5 * time.Millisecond, Rescan: 5 * time.Millisecond, Expire: 5 * time.Millisecond}
	for _, tt := range []struct {
		name   string
		offer  []string
		timing Timing
	}{
		{"CHUNKING", sink.DefaultOffer(), Timing{}},
		{"DATA", sink.OfferWithout("CHUNKING"), Timing{}},
		{"bare", []string{}, Timing{}},
		{"busy timers", sink.DefaultOffer(), quick},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := sink.Config{Offer: tt.offer, Answer: sink.On(sink.Dot, sink.Reply{Delay: time.Millisecond})}
			w := newWorld(t, "a", "b")
			w.timing = tt.timing
			s := w.sink(server)
			w.route("example.test", "dest", slots, s.Addr())
			ids := w.acceptMany(messages/2, "example.test")
			w.runAll()
			ids = append(ids, w.acceptMany(messages/2, "example.test")...)
			w.awaitDelivered("dest", messages)
			w.checkOnce(ids, s)
			stats := s.Stats()
			if stats.MaxOpen > slots {
				t.Errorf("%d connections at once, want at most %d", stats.MaxOpen, slots)
			}
			if stats.Connections > slots {
				t.Errorf("%d connections for %d messages in %d slots", stats.Connections, messages, slots)
			}
			if most := w.log.mostClaims("dest"); most > 2*slots {
				t.Errorf("%d claims at once, want at most %d", most, 2*slots)
			}
			for _, n := range w.nodes {
				if got := n.counted(n.scheduler.metrics.orphans); got != 0 {
					t.Errorf("node %s: %v orphan claims", n.name, got)
				}
			}
		})
	}
}

// sendersAt lets reports to testSender arrive at a destination of their own.
func (w *world) sendersAt() *sink.Server {
	w.t.Helper()
	s := w.sink(sink.Config{})
	w.route("origin.test", "origin", 2, s.Addr())
	return s
}

func rcpt(code int, addresses ...string) func(sink.Step) sink.Reply {
	return func(s sink.Step) sink.Reply {
		for _, address := range addresses {
			if s.Verb == "RCPT" && s.Address == address {
				return sink.Reply{Code: code, Enhanced: fmt.Sprintf("%d.1.1", code/100), Text: "no such place"}
			}
		}
		return sink.Reply{}
	}
}

func TestMixedOutcomes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		if reply := rcpt(450, "later@example.test", "too@example.test")(step); reply.Code != 0 {
			return reply
		}
		return rcpt(550, "gone@example.test", "away@example.test")(step)
	}})
	w.route("example.test", "dest", 5, s.Addr())
	senders := w.sendersAt()
	id := w.accept(testSender, "later@example.test", "one@example.test", "gone@example.test",
		"two@example.test", "away@example.test", "too@example.test")
	w.runAll()

	for _, number := range []uint32{1, 3} {
		w.awaitState(id, number, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	}
	gone := w.awaitState(id, 2, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	if gone.LastError.GetCode() != 550 || gone.Attempts != 1 {
		t.Errorf("bounced with %v after %d attempts", gone.LastError, gone.Attempts)
	}
	w.await("the first attempt counts", func() bool { return w.recipient(id, 0).Attempts == 1 })
	later, too := w.recipient(id, 0), w.recipient(id, 5)
	wait := time.Unix(0, later.NextAttempt).Sub(time.Unix(0, later.LastError.At))
	if wait < 50*time.Second || wait > 70*time.Second {
		t.Errorf("the next attempt is %s after the first, the policy says a minute, give or take a tenth", wait)
	}
	if later.NextAttempt != too.NextAttempt {
		t.Error("recipients that were deferred together aren't due together")
	}

	must(t, senders.Wait(w.ctx, func(all []sink.Message) bool { return len(all) == 1 }))
	report := senders.Messages()[0]
	if report.From != "" || report.Recipients[0].Address != testSender {
		t.Errorf("report from %q to %v", report.From, report.Recipients)
	}
	for _, want := range []string{"gone@example.test", "away@example.test", "550"} {
		if !strings.Contains(string(report.Data), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.Contains(string(report.Data), "later@example.test") {
		t.Error("the report names a recipient that was deferred")
	}
	if got := s.Stats().Transactions; got != 1 {
		t.Errorf("%d transactions, want one for all", got)
	}
}

// A refusal for good and what becomes of the report.
func TestReports(t *testing.T) {
	refuse := rcpt(550, "gone@example.test")
	for _, tt := range []struct {
		name, from string
		answer     func(sink.Step) sink.Reply // of the sender's own server, nil: none is configured
		want       pb.RecipientState          // of the report, unspecified: there is none
	}{
		{"delivered", testSender, func(sink.Step) sink.Reply { return sink.Reply{} }, pb.RecipientState_RECIPIENT_STATE_DELIVERED},
		{"refused", testSender, rcpt(550, testSender), pb.RecipientState_RECIPIENT_STATE_FROZEN},
		{"refused at the dot", testSender, sink.On(sink.Dot, sink.Reply{Code: 554}), pb.RecipientState_RECIPIENT_STATE_FROZEN},
		{"not routed", testSender, nil, pb.RecipientState_RECIPIENT_STATE_FROZEN},
		{"null sender", "", nil, pb.RecipientState_RECIPIENT_STATE_UNSPECIFIED},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			w.route("example.test", "dest", 2, w.sink(sink.Config{Answer: refuse}).Addr())
			if tt.answer != nil {
				w.sendersAt().SetAnswer(tt.answer)
			}
			id := w.accept(tt.from, "gone@example.test")
			w.runAll()
			w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
			rows := w.history(id)
			report := rows[len(rows)-1].Report
			if tt.want == pb.RecipientState_RECIPIENT_STATE_UNSPECIFIED {
				if report != nil {
					t.Fatal("there is a report to the null sender")
				}
				return
			}
			reportID, err := relay.MessageIDFromBytes(report)
			must(t, err)
			w.awaitState(reportID, 0, tt.want)
		})
	}
}

// Recipients of one message can be due in another order than that of RCPT.
func TestRecipientsDueOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	addresses := []string{"x@example.test", "y@example.test", "z@example.test"}
	s := w.sink(sink.Config{Answer: rcpt(550, addresses...)})
	w.route("example.test", "dest", 2, s.Addr())
	id := w.accept(testSender, addresses...)
	incarnation := w.any()
	for i := range uint32(3) {
		w.must(incarnation, claimEvent(uint64(1000+i), id, "dest", false, i), nil)
		w.must(incarnation, &pb.Event{Kind: &pb.Event_AttemptFailed{AttemptFailed: &pb.AttemptFailed{
			Claim: &pb.ClaimRef{Incarnation: incarnation, Attempt: uint64(1000 + i)}, MessageId: id[:],
			Recipients: []*pb.AttemptFailed_Recipient{{
				Recipient: i, NextAttempt: w.clock.now().Add(-time.Duration(i+1) * time.Second).UnixNano(),
			}},
		}}}, nil)
	}
	w.observer().TakeChanges() // those attempts are over
	w.runAll()
	for i := range uint32(3) {
		w.awaitState(id, i, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	}
	if bounces := w.log.count(func(e *pb.Event) bool { return e.GetBounced() != nil }); bounces != 1 {
		t.Errorf("%d reports for recipients that were refused together", bounces)
	}
}

func claimEvent(attempt uint64, id relay.MessageID, destination string, probe bool, recipients ...uint32) *pb.Event {
	return &pb.Event{Kind: &pb.Event_AttemptStarted{AttemptStarted: &pb.AttemptStarted{
		Claims: []*pb.AttemptStarted_Claim{{
			Attempt: attempt, MessageId: id[:], Recipients: recipients, Destination: destination, Probe: probe,
		}},
	}}}
}

// A claim that the scheduler never hears of: its grant got lost with a state
// that was replaced.
func TestOrphanClaimIsReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.timing.Reconcile = 20 * time.Millisecond
	s := w.sink(sink.Config{})
	w.route("example.test", "dest", 2, s.Addr())
	id := w.accept(testSender, "user@example.test")
	w.must(w.any(), claimEvent(1000, id, "dest", false, 0), nil)
	w.observer().TakeChanges()
	w.runAll()
	w.awaitDelivered("dest", 1)
	w.checkOnce([]relay.MessageID{id}, s)
	if got := w.nodes["a"].counted(w.nodes["a"].scheduler.metrics.orphans); got != 1 {
		t.Errorf("%v orphans counted, want 1", got)
	}
	if doubt := w.recipient(id, 0).InDoubt; doubt != 0 {
		t.Errorf("in doubt %d times without an attempt", doubt)
	}
}

// The peer takes the message and hangs up without a word: it is in doubt, and
// tried again by the message's own schedule.
func TestNoReplyToTheDot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.timing.Rescan = 10 * time.Millisecond // finds what is due once the clock has jumped
	s := w.sink(sink.Config{Answer: sink.On(sink.Dot, sink.Reply{Code: 250, Silent: true, Hangup: true})})
	w.route("example.test", "dest", 2, s.Addr())
	id := w.accept(testSender, "user@example.test")
	w.runAll()
	w.await("the recipient is in doubt", func() bool { return w.recipient(id, 0).InDoubt == 1 })
	if got := s.IDs()[id.String()]; got != 1 {
		t.Fatalf("taken %d times", got)
	}
	if wait := time.Unix(0, w.recipient(id, 0).NextAttempt).Sub(w.clock.now()); wait < 40*time.Second {
		t.Errorf("tried again in %s", wait)
	}
	if health := w.health("dest"); health.State != pb.DestinationHealth_STATE_UP || health.Probes != 0 {
		t.Errorf("the host counts as %s", health.State)
	}
	s.SetAnswer(nil)
	w.clock.advance(2 * time.Minute)
	w.awaitDelivered("dest", 1)
	if got := s.IDs()[id.String()]; got != 2 {
		t.Errorf("taken %d times", got)
	}
}

// A destination's new hosts get its mail from then on, however good the
// connections to the old ones are.
func TestDestinationChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.timing.Idle = time.Hour
	before, after := w.sink(sink.Config{}), w.sink(sink.Config{})
	w.route("example.test", "dest", 4, before.Addr())
	w.runAll()
	first := w.acceptMany(20, "example.test")
	w.awaitDelivered("dest", 20)
	answer, reached, together := holdAt(sink.Dot)
	before.SetAnswer(answer)
	first = append(first, w.acceptMany(4, "example.test")...)
	for range 4 {
		w.receive("a connection for each slot", reached)
	}
	close(together)
	w.awaitDelivered("dest", 24)

	answer, reached, hold := holdAt(sink.Dot)
	before.SetAnswer(answer)
	held := w.accept(testSender, "held@example.test")
	w.receive("a delivery is under way", reached)
	w.destination("dest", 4, after.Addr())
	must(t, before.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Open == 1 }))
	second := w.acceptMany(20, "example.test")
	must(t, after.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Committed == 20 }))
	close(hold)
	w.awaitDelivered("dest", 45)
	w.checkOnce(append(first, held), before)
	w.checkOnce(second, after)
	must(t, before.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Open == 0 }))
}

func TestDestinationRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.timing.Idle = time.Hour
	s := w.sink(sink.Config{})
	w.route("example.test", "old", 2, s.Addr())
	w.runAll()
	w.accept(testSender, "user@example.test")
	w.awaitDelivered("old", 1)
	w.route("example.test", "new", 2, s.Addr())
	w.must(w.any(), &pb.Event{Kind: &pb.Event_DestinationRemoved{DestinationRemoved: &pb.DestinationRemoved{Name: "old"}}}, nil)
	must(t, s.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Open == 0 }))
	w.accept(testSender, "user@example.test")
	w.awaitDelivered("new", 1)
	w.await("the removed destination is forgotten", func() (forgotten bool) {
		w.nodes["a"].look(func(s *Scheduler) { forgotten = s.queues["old"] == nil })
		return forgotten
	})
}
