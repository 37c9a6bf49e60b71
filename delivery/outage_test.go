package delivery

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// dials counts the connections that all nodes have tried.
func (w *world) dials() int64 {
	var n int64
	for _, node := range w.nodes {
		n += node.dials.Load()
	}
	return n
}

// breaker makes a mail server fail and come back.
type breaker struct {
	name string
	fail func(w *world, s *sink.Server)
	heal func(w *world, s *sink.Server) *sink.Server
}

var breakers = []breaker{
	{
		"connection refused",
		func(w *world, s *sink.Server) { must(w.t, s.Close()) },
		func(w *world, s *sink.Server) *sink.Server { return w.sink(sink.Config{Address: s.Addr()}) },
	},
	{
		"554 greeting",
		func(_ *world, s *sink.Server) {
			s.SetAnswer(sink.On(sink.Connect, sink.Reply{Code: 554, Text: "no service", Hangup: true}))
			s.Disconnect()
		},
		func(_ *world, s *sink.Server) *sink.Server { s.SetAnswer(nil); return s },
	},
	{
		"no greeting",
		func(w *world, s *sink.Server) {
			s.SetAnswer(sink.On(sink.Connect, sink.Reply{Hold: w.ctx.Done()}))
			s.Disconnect()
		},
		func(_ *world, s *sink.Server) *sink.Server { s.SetAnswer(nil); return s },
	},
	{
		"421 to MAIL",
		func(_ *world, s *sink.Server) {
			s.SetAnswer(sink.On("MAIL", sink.Reply{Code: 421, Text: "shutting down", Hangup: true}))
		},
		func(_ *world, s *sink.Server) *sink.Server { s.SetAnswer(nil); return s },
	},
}

// A destination fails with 300 messages queued: one event, a second opinion,
// one connection a probe, no attempt counted. It returns: everything drains by
// itself. Both for a host that was never reached and one that just was.
func TestOutage(t *testing.T) {
	const slots = 5
	for _, b := range breakers {
		for _, warm := range []int{0, 20} {
			t.Run(fmt.Sprintf("%s after %d deliveries", b.name, warm), func(t *testing.T) {
				t.Parallel()
				messages := 300
				if warm > 0 {
					messages = 60
				}
				w := newWorld(t, "a", "b")
				if b.name == "no greeting" {
					w.timeouts.Greeting = 30 * time.Millisecond
				}
				s := w.sink(sink.Config{})
				w.route("example.test", "dest", slots, s.Addr())
				w.runAll()
				w.acceptMany(warm, "example.test")
				w.awaitDelivered("dest", uint64(warm))
				first := w.owner("dest").name

				b.fail(w, s)
				before := w.dials()
				ids := w.acceptMany(messages, "example.test")
				w.await("the destination is down", func() bool {
					return w.health("dest").State == pb.DestinationHealth_STATE_DOWN
				})
				if got := w.health("dest").FirstNode; got != first {
					t.Errorf("%s failed first, want the owner, %s", got, first)
				}
				w.await("some probes", func() bool { return w.health("dest").Failed >= 6 })
				failed, tried := int64(w.health("dest").Failed), w.dials()-before
				// Those that were under way when the outage began, and a probe whose
				// end isn't in the log yet.
				if tried > failed+2*slots+1 {
					t.Errorf("%d connections for %d failed probes", tried, failed)
				}
				if failed := w.log.count(func(e *pb.Event) bool { return e.GetAttemptFailed() != nil }); failed > int(w.health("dest").Failed)+2*slots+1 {
					t.Errorf("%d attempts failed in %d probes", failed, w.health("dest").Failed)
				}
				for _, id := range ids {
					if n := w.recipient(id, 0).Attempts; n != 0 {
						t.Fatalf("%d attempts are counted while the destination is down", n)
					}
				}

				healed := b.heal(w, s)
				w.awaitDelivered("dest", uint64(messages+warm))
				w.checkOnce(ids, healed)
				// A held greeting keeps connections open at the server that are closed here.
				if most := healed.Stats().MaxOpen; most > slots && b.name != "no greeting" {
					t.Errorf("%d connections at once, want at most %d", most, slots)
				}
				if most := w.log.mostClaims("dest"); most > 2*slots {
					t.Errorf("%d claims at once, want at most %d", most, 2*slots)
				}
			})
		}
	}
}

// One node that can't reach the host, while the other one can, is no outage.
func TestSecondOpinion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	s := w.sink(sink.Config{})
	w.route("example.test", "dest", 5, s.Addr())
	unlucky := w.owner("dest").name
	s.SetAnswer(func(step sink.Step) sink.Reply {
		if step.Verb == "EHLO" && strings.HasPrefix(step.Args, unlucky+".") {
			return sink.Reply{Code: 554, Text: "not you", Hangup: true}
		}
		return sink.Reply{}
	})
	ids := w.acceptMany(50, "example.test")
	w.runAll()
	w.awaitDelivered("dest", 50)
	w.checkOnce(ids, s)
	if got := w.owner("dest").name; got == unlucky {
		t.Errorf("%s still owns the destination", got)
	}
	health := w.health("dest")
	if health.State != pb.DestinationHealth_STATE_UP || health.Probes != 2 {
		t.Errorf("%s after %d probes", health.State, health.Probes)
	}
}

// Only the owner is cut off, first from the route, then from DNS: the second
// opinion is another node's probe, which delivers, and the rest follows. No
// message has an attempt counted or is returned.
func TestOwnerIsCutOff(t *testing.T) {
	for _, tt := range []struct {
		cause string
		cut   func(*node)
	}{
		{"unreachable", func(n *node) { n.noRoute.Store(true) }},
		{"dns", func(n *node) { n.noNames.Store(true) }},
	} {
		t.Run(tt.cause, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", "b", "c")
			w.resolver = names{}
			s := w.sink(sink.Config{})
			_, port, err := net.SplitHostPort(s.Addr())
			must(t, err)
			w.route("example.test", "dest", 5, "host.test:"+port)
			w.runAll()
			w.acceptMany(20, "example.test")
			w.awaitDelivered("dest", 20)
			owner := w.owner("dest")
			tt.cut(owner)
			s.Disconnect()
			ids := w.acceptMany(50, "example.test")
			w.awaitDelivered("dest", 70)
			w.checkOnce(ids, s)
			// One failure of the owner, one success of the next node.
			if health := w.health("dest"); health.Probes != 2 || health.Failure.GetCause() != tt.cause || w.owner("dest") == owner {
				t.Errorf("after %d probes, %s failed with %v", health.Probes, health.FirstNode, health.Failure)
			}
			for _, id := range ids {
				if n := w.recipient(id, 0).Attempts; n > 1 {
					t.Errorf("%d attempts are counted", n)
				}
			}
		})
	}
}

// A peer that takes a few connections and no more gets so many, whatever the
// slots, and no outage is made of it.
func TestHostLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{3, 10} {
		t.Run(fmt.Sprint(limit, " connections, 20 slots"), func(t *testing.T) { hostLimit(t, limit) })
	}
}

func hostLimit(t *testing.T, limit int) {
	w := newWorld(t, "a", "b")
	const messages = 150
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		switch {
		case step.Verb == sink.Connect && step.Open > limit:
			return sink.Reply{Code: 421, Text: "too many connections", Hangup: true}
		case step.Verb == sink.Dot:
			return sink.Reply{Delay: 2 * time.Millisecond}
		}
		return sink.Reply{}
	}})
	w.route("example.test", "dest", 20, s.Addr())
	ids := w.acceptMany(messages, "example.test")
	w.runAll()
	w.awaitDelivered("dest", messages)
	w.checkOnce(ids, s)
	if health := w.health("dest"); health.Probes != 0 {
		t.Errorf("an outage was declared: %v", health.Failure)
	}
	// Each success tries one more, each refusal takes one back.
	if refused := s.Stats().Connections - limit; refused > messages {
		t.Errorf("%d refused connections for %d messages", refused, messages)
	}
}

// A destination is up while one of its hosts is.
func TestSecondHost(t *testing.T) {
	t.Parallel()
	for _, answer := range []func(sink.Step) sink.Reply{
		sink.On("MAIL", sink.Reply{Code: 421, Text: "shutting down", Hangup: true}),
		sink.On(sink.Connect, sink.Reply{Code: 554, Text: "no service", Hangup: true}),
		sink.On("RCPT", sink.Reply{Code: 421, Text: "shutting down", Hangup: true}),
	} {
		w := newWorld(t, "a", "b")
		bad, good := w.sink(sink.Config{Answer: answer}), w.sink(sink.Config{})
		w.route("example.test", "dest", 5, bad.Addr(), good.Addr())
		ids := w.acceptMany(30, "example.test")
		w.runAll()
		w.awaitDelivered("dest", 30)
		w.checkOnce(ids, good)
		if health := w.health("dest"); health.Probes != 0 {
			t.Errorf("an outage was declared: %v", health.Failure)
		}
		if n := bad.Stats().Connections; n > 5 {
			t.Errorf("the host that fails was tried %d times in a row", n)
		}
	}
}

// destinationFails makes the owner say so, without an attempt.
func (w *world) destinationFails(name string, nextProbe time.Time) {
	w.t.Helper()
	w.must(w.owner(name).Incarnation(), &pb.Event{Kind: &pb.Event_DestinationFailed{DestinationFailed: &pb.DestinationFailed{
		Name: name, Probes: w.health(name).Probes, NextProbe: nextProbe.UnixNano(),
	}}}, nil)
}

// What waits longer than its retention at a destination that is down goes back,
// in one report a message.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.timing.Expire = 10 * time.Millisecond
	w.route("example.test", "dest", 5, "127.0.0.1:1")
	senders := w.sendersAt()
	old := w.accept(testSender, "one@example.test", "two@example.test")
	for range 2 {
		w.destinationFails("dest", w.clock.now().Add(30*24*time.Hour)) // no probe comes in between
	}
	w.clock.advance(6 * 24 * time.Hour)
	young := w.accept(testSender, "three@example.test")
	w.runAll()
	for number := range uint32(2) {
		w.awaitState(old, number, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	}
	must(t, senders.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Committed > 0 }))
	if got := w.recipient(young, 0).State; got != pb.RecipientState_RECIPIENT_STATE_PENDING {
		t.Errorf("the young message is %s", got)
	}
	reports := senders.Messages()
	if len(reports) != 1 {
		t.Fatalf("%d reports on one message", len(reports))
	}
	for _, want := range []string{"one@example.test", "two@example.test"} {
		if !strings.Contains(string(reports[0].Data), want) {
			t.Errorf("the report lacks %s", want)
		}
	}
}
