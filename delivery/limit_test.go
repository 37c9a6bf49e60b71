package delivery

import (
	"fmt"
	"sync/atomic"
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// A message to more recipients than the host takes at a time costs each of them one
// attempt, however the host says so and whatever it does with the connection.
func TestRecipientsOverTheHostsLimit(t *testing.T) {
	const recipients = 50
	atMost := func(n int, code int) func(sink.Step) sink.Reply {
		return func(s sink.Step) sink.Reply {
			if s.Verb == "RCPT" && s.Message != nil && len(s.Message.Recipients) >= n {
				return sink.Reply{Code: code, Enhanced: fmt.Sprintf("%d.5.3", code/100), Text: "too many recipients"}
			}
			return sink.Reply{}
		}
	}
	for _, tt := range []struct {
		name        string
		server      sink.Config
		connections int
	}{
		{"announced", sink.Config{Offer: append(sink.DefaultOffer(), "LIMITS RCPTMAX=4")}, 1},
		{"announced, one message a connection", sink.Config{Offer: []string{"LIMITS MAILMAX=1 RCPTMAX=4"}}, 13},
		{"452 4.5.3", sink.Config{Answer: atMost(4, 452)}, 1},
		{"452 4.5.3, closes after a message", sink.Config{Offer: []string{}, Answer: func(s sink.Step) sink.Reply {
			if s.Verb == sink.Dot {
				return sink.Reply{Code: 250, Text: "taken", Hangup: true}
			}
			return atMost(4, 452)(s)
		}}, 13},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			s := w.sink(tt.server)
			w.destination("dest", 1, s.Addr())
			w.follow("example.test", "dest", "eleven")
			var to []string
			for i := range recipients {
				to = append(to, fmt.Sprintf("user%d@example.test", i))
			}
			id := w.accept(testSender, to...)
			w.runAll()
			w.awaitDelivered("dest", recipients)
			got := map[string]int{}
			for _, m := range s.Messages() {
				for _, r := range m.Recipients {
					got[r.Address]++
				}
			}
			for i := range uint32(recipients) {
				if r := w.recipient(id, i); r.Attempts != 1 || r.InDoubt != 0 || r.LastError != nil || got[to[i]] != 1 {
					t.Errorf("%s: %d attempts, last error %v, arrived %d times", to[i], r.Attempts, r.LastError, got[to[i]])
				}
			}
			if n := s.Stats().Connections; n != tt.connections {
				t.Errorf("%d connections, want %d", n, tt.connections)
			}
		})
	}
}

// One that is too many where nobody is taken has had its attempt: what the host says
// is no matter of the transaction's size.
func TestTooManyOfNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	s := w.sink(sink.Config{Answer: sink.On("RCPT", sink.Reply{Code: 452, Enhanced: "4.5.3", Text: "enough for this hour"})})
	w.route("example.test", "dest", 1, s.Addr())
	id := w.accept(testSender, "one@example.test", "two@example.test")
	w.runAll()
	for i := range uint32(2) {
		w.await("the attempt counts", func() bool { return w.recipient(id, i).Attempts == 1 })
		if r := w.recipient(id, i); r.LastError.GetCode() != 452 || r.NextAttempt <= w.clock.now().UnixNano() {
			t.Errorf("%v, want it to wait by its policy", r)
		}
	}
}

// The lease is lost while the reply to the first of several transactions is awaited:
// that one counts, and no other begins until the node may act again.
func TestLeaseLostBetweenTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	hold, reached, release := holdAt(sink.Dot)
	var begun atomic.Int64
	s := w.sink(sink.Config{Offer: []string{"LIMITS RCPTMAX=2"}, Answer: func(s sink.Step) sink.Reply {
		if s.Verb == "MAIL" {
			begun.Add(1)
		}
		return hold(s)
	}})
	w.route("example.test", "dest", 1, s.Addr())
	id := w.accept(testSender, "one@example.test", "two@example.test", "three@example.test", "four@example.test", "five@example.test")
	w.runAll()
	w.receive("the dot", reached)
	w.nodes["a"].awaitAcknowledged()
	w.nodes["a"].lose()
	w.nodes["a"].look(func(s *Scheduler) { s.leaseChanged() }) // it may be told a moment later
	close(release)
	w.awaitState(id, 1, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	w.await("the others are released", func() bool { return w.claims("dest") == 0 })
	for i := range uint32(5) {
		r := w.recipient(id, i)
		if delivered := r.State == pb.RecipientState_RECIPIENT_STATE_DELIVERED; delivered != (i < 2) || r.InDoubt != 0 || !delivered && r.Attempts != 0 {
			t.Errorf("recipient %d: %v", i, r)
		}
	}
	if got := begun.Load(); got != 1 {
		t.Errorf("%d transactions, want none begun without a lease", got)
	}
	s.SetAnswer(nil)
	w.nodes["a"].regain()
	w.awaitDelivered("dest", 5)
	if got := s.Stats().Recipients; got != 5 {
		t.Errorf("taken for %d recipients, want each once", got)
	}
}
