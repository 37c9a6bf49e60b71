package delivery

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// holdAt is an Answer that keeps the first reply to a verb back, and tells when
// it has come to that.
func holdAt(verb string) (answer func(sink.Step) sink.Reply, reached chan struct{}, release chan struct{}) {
	reached, release = make(chan struct{}, 1000), make(chan struct{})
	return func(s sink.Step) sink.Reply {
		if s.Verb != verb {
			return sink.Reply{}
		}
		reached <- struct{}{}
		return sink.Reply{Hold: release}
	}, reached, release
}

func (w *world) receive(what string, c <-chan struct{}) {
	w.t.Helper()
	select {
	case <-c:
	case <-w.ctx.Done():
		w.t.Fatalf("waited in vain: %s", what)
	}
}

// The lease ends before the message has gone out whole: the connection is
// reset, nothing arrives, and the message is due again without a doubt.
func TestLeaseLostBeforeTheDot(t *testing.T) {
	for _, verb := range []string{sink.Connect, "EHLO", "MAIL", "RCPT", "DATA", "BDAT"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			answer, reached, release := holdAt(verb)
			offer := []string{"PIPELINING", "CHUNKING"}
			if verb == "DATA" || verb == "MAIL" || verb == "RCPT" {
				offer = []string{}
			}
			s := w.sink(sink.Config{Answer: answer, Offer: offer})
			w.route("example.test", "dest", 2, s.Addr())
			id := w.acceptBody(testSender, longText, "user@example.test")
			w.runAll()
			w.receive(verb, reached)
			w.nodes["a"].lose()
			w.await("the claim is released", func() bool { return w.claims("dest") == 0 })
			close(release)
			must(t, s.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Open == 0 }))
			if got := s.Stats().Committed; got != 0 {
				t.Fatalf("%d messages arrived without a lease", got)
			}
			record := w.recipient(id, 0)
			if record.InDoubt != 0 || record.Attempts != 0 || record.State != pb.RecipientState_RECIPIENT_STATE_PENDING {
				t.Errorf("got %v", record)
			}
			if next := time.Unix(0, record.NextAttempt); next.After(w.clock.now()) {
				t.Errorf("due at %s only", next)
			}
			s.SetAnswer(nil)
			w.nodes["a"].regain()
			w.awaitDelivered("dest", 1)
			w.checkOnce([]relay.MessageID{id}, s)
			if health := w.health("dest"); health.Probes != 0 {
				t.Errorf("an outage was declared: %v", health.Failure)
			}
		})
	}
}

// After the dot only the reply is awaited: it counts, lease or not.
func TestLeaseLostAfterTheDot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	answer, reached, release := holdAt(sink.Dot)
	s := w.sink(sink.Config{Answer: answer})
	w.route("example.test", "dest", 2, s.Addr())
	id := w.accept(testSender, "user@example.test")
	w.runAll()
	w.receive("the dot", reached)
	w.nodes["a"].awaitAcknowledged()
	w.nodes["a"].lose()
	close(release)
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	w.checkOnce([]relay.MessageID{id}, s)
	if doubt := w.recipient(id, 0).InDoubt; doubt != 0 {
		t.Errorf("in doubt %d times", doubt)
	}
}

// The last byte stays here where the lease or the claim went while the body was
// read, even if nobody has reset the connection yet.
func TestBodyEndsOnlyWithTheClaim(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	n := w.nodes["a"]
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	id := w.accept(testSender, "user@example.test")
	incarnation := w.any()
	w.must(incarnation, claimEvent(1, id, "dest", false, 0), nil)
	s, err := New(n.config())
	must(t, err)
	a := &attempt{id: id, grant: n.state.Claims(incarnation)[0]}
	for _, step := range []struct {
		change func()
		want   error
	}{
		{func() {}, nil},
		{n.lose, errLeaseLost},
		{n.regain, nil},
		{func() { n.down(); n.up() }, errLeaseLost},
	} {
		step.change()
		body, err := s.openBody(a)
		must(t, err)
		buf := make([]byte, 1<<10)
		for err == nil {
			_, err = body.Read(buf)
		}
		if errors.Is(err, errLeaseLost) != (step.want != nil) {
			t.Errorf("the body ends with %v, want %v", err, step.want)
		}
		must(t, body.Close())
	}
}

// A node falls silent after the dot and is declared down; another one delivers
// once the attempt is in doubt. What the first one has to say counts as a duplicate,
// unless it went to an address that the recipient has no longer.
func TestNodeDeath(t *testing.T) {
	t.Parallel()
	const (
		accepted  = pb.HistoryRecord_KIND_ACCEPTED
		moved     = pb.HistoryRecord_KIND_REDIRECTED
		inDoubt   = pb.HistoryRecord_KIND_IN_DOUBT
		delivered = pb.HistoryRecord_KIND_DELIVERED
		duplicate = pb.HistoryRecord_KIND_DUPLICATE
	)
	nothing := func(*world, relay.MessageID) {}
	redirect := func(w *world, id relay.MessageID) {
		w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
			Operation: &pb.Operation{Kind: pb.Operation_KIND_REDIRECT, Address: "other@example.test"},
			Targets:   []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}},
		}}}, nil)
	}
	for name, tt := range map[string]struct {
		before, during func(*world, relay.MessageID)
		want           []pb.HistoryRecord_Kind
	}{
		"to its only address":           {nothing, nothing, []pb.HistoryRecord_Kind{accepted, inDoubt, delivered, duplicate}},
		"redirected before the attempt": {redirect, nothing, []pb.HistoryRecord_Kind{accepted, moved, inDoubt, delivered, duplicate}},
		"redirected when the node died": {nothing, redirect, []pb.HistoryRecord_Kind{
			accepted, pb.HistoryRecord_KIND_ORDERED, moved, inDoubt, delivered, pb.HistoryRecord_KIND_DELIVERED_ELSEWHERE,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			answer, reached, release := holdAt(sink.Dot)
			s := w.sink(sink.Config{Answer: answer})
			w.route("example.test", "dest", 2, s.Addr())
			id := w.accept(testSender, "user@example.test")
			tt.before(w, id)
			w.runAll()
			w.receive("the dot", reached)
			tt.during(w, id)
			dead := w.owner("dest")
			dead.awaitAcknowledged()
			dead.lose()
			s.SetAnswer(nil)
			dead.down()
			w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
			if record := w.recipient(id, 0); record.InDoubt != 1 {
				t.Errorf("in doubt %d times, want 1", record.InDoubt)
			}
			close(release)
			must(t, s.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Committed == 2 }))
			dead.up()
			w.await("the late delivery is in the log", func() bool { return len(w.history(id)) == len(tt.want) })
			var kinds []pb.HistoryRecord_Kind
			for _, row := range w.history(id) {
				kinds = append(kinds, row.Kind)
			}
			if !slices.Equal(kinds, tt.want) {
				t.Errorf("history %v, want %v", kinds, tt.want)
			}
			if n := w.counter("dest").Duplicates; n > 0 != slices.Contains(tt.want, duplicate) {
				t.Errorf("%d duplicates are counted", n)
			}
		})
	}
}

// An incarnation ends and the next one begins: what is under way is reset
// before it begins anew, and attempts of both never overlap.
func TestNewIncarnation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	answer, reached, release := holdAt("MAIL")
	s := w.sink(sink.Config{Answer: answer, Offer: []string{}})
	w.route("example.test", "dest", 4, s.Addr())
	ids := w.acceptMany(10, "example.test")
	w.runAll()
	w.receive("MAIL", reached)
	s.SetAnswer(nil)
	w.nodes["a"].up()
	w.awaitDelivered("dest", 10)
	close(release)
	w.checkOnce(ids, s)
}

// A claim that is proposed in one incarnation and granted in the next one is
// carried out, not left over for the reconciliation.
func TestGrantOfTheNextIncarnation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	n := w.nodes["a"]
	s, err := New(n.config())
	must(t, err)
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	s.resync()
	id := w.accept(testSender, "user@example.test")
	n.up()
	w.must(w.any(), claimEvent(1, id, "dest", false, 0), nil)
	grants := n.state.TakeChanges().Granted
	s.absorb(fsm.Changes{Granted: grants})
	if got := len(s.queues["dest"].lanes[fsm.LaneRetry].ready); got != 1 || s.incarnation != n.Incarnation() {
		t.Errorf("%d of %d claims are ready in incarnation %d", got, len(grants), s.incarnation)
	}
}

// Ownership moves while the old owner's slots are full and claims wait behind
// them: both nodes together keep to the slots, and neither waits for the other.
func TestOwnershipMoves(t *testing.T) {
	t.Parallel()
	const slots = 4
	w := newWorld(t, "a", "b")
	s := w.sink(sink.Config{})
	w.route("example.test", "dest", slots, s.Addr())
	second := w.owner("dest")
	second.down()
	second.up() // and not eligible yet
	first := w.owner("dest")
	w.runAll()
	ids := w.acceptMany(20, "example.test")
	w.awaitDelivered("dest", 20)

	answer, reached, release := holdAt(sink.Dot)
	s.SetAnswer(answer)
	ids = append(ids, w.acceptMany(30, "example.test")...)
	for range slots {
		w.receive("a slot is taken", reached)
	}
	w.await("claims wait", func() bool { return w.claims("dest") == 2*slots })
	second.eligible()
	w.await("the claims without a slot go back", func() bool {
		return len(first.state.Claims(first.Incarnation())) == slots && w.owner("dest") == second
	})
	close(release)
	w.awaitDelivered("dest", 50)
	w.checkOnce(ids, s)
	if most := w.log.mostClaims("dest"); most > 2*slots {
		t.Errorf("%d claims at once, want at most %d", most, 2*slots)
	}
	must(t, s.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Open <= slots }))
}

// Nodes die and come back, leases come and go: every message arrives, as often
// as its attempts were in doubt and once more at most.
func TestUnrest(t *testing.T) {
	t.Parallel()
	const messages, slots = 200, 6
	w := newWorld(t, "a", "b", "c")
	w.timing.Reconcile, w.timing.Rescan = 10*time.Millisecond, 10*time.Millisecond
	s := w.sink(sink.Config{Answer: sink.On(sink.Dot, sink.Reply{Delay: 2 * time.Millisecond})})
	w.route("example.test", "dest", slots, s.Addr())
	ids := w.acceptMany(messages, "example.test")
	w.runAll()
	names := []string{"a", "b", "c"}
	for round := 0; w.counter("dest").Delivered < messages/2; round++ {
		n := w.nodes[names[round%3]]
		delivered := w.counter("dest").Delivered
		n.lose()
		if round%2 == 0 {
			n.down()
			w.nodes[names[(round+1)%3]].regain()
			n.up()
			n.eligible()
		}
		n.regain()
		w.await("something is delivered", func() bool {
			c := w.counter("dest")
			return c.Delivered > delivered+2 || c.Pending == 0
		})
	}
	w.await("all is settled", func() bool { return w.counter("dest").Pending == 0 && w.claims("dest") == 0 })
	arrived := s.IDs()
	for _, id := range ids {
		record := w.recipient(id, 0)
		if n := arrived[id.String()]; n < 1 && record.State != pb.RecipientState_RECIPIENT_STATE_HELD || n > 1+int(record.InDoubt) {
			t.Errorf("message %s arrived %d times, in doubt %d times", id, n, record.InDoubt)
		}
	}
}

// A stop lets attempts end, and gives back the claims that have none.
func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	const slots = 3
	s := w.sink(sink.Config{})
	w.route("example.test", "dest", slots, s.Addr())
	w.runAll()
	w.acceptMany(10, "example.test")
	w.awaitDelivered("dest", 10)
	answer, reached, release := holdAt(sink.Dot)
	s.SetAnswer(answer)
	w.acceptMany(10, "example.test")
	for range slots {
		w.receive("a slot is taken", reached)
	}
	n := w.nodes["a"]
	n.stopRun()
	w.await("claims without an attempt are released", func() bool { return w.claims("dest") == slots })
	close(release)
	n.stop()
	if c := w.counter("dest"); c.Delivered != 10+slots || c.InDoubt != 0 || w.claims("dest") != 0 {
		t.Errorf("after the stop: %v, %d claims", c, w.claims("dest"))
	}
}

// A peer that doesn't answer keeps nobody beyond the grace. What has been sent
// whole is in doubt by then, in the log; what hasn't is merely due.
func TestStopWithoutAnswers(t *testing.T) {
	for _, tt := range []struct {
		verb    string
		doubted uint64
	}{{"MAIL", 0}, {sink.Dot, 1}} {
		t.Run(tt.verb, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			w.grace, w.timing.Commit = 200*time.Millisecond, 2*time.Second
			answer, reached, _ := holdAt(tt.verb)
			s := w.sink(sink.Config{Answer: answer, Offer: []string{}})
			w.route("example.test", "dest", 2, s.Addr())
			w.accept(testSender, "user@example.test")
			w.runAll()
			w.receive(tt.verb, reached)
			w.nodes["a"].stop()
			if c := w.counter("dest"); c.Pending != 1 || c.InDoubt != tt.doubted || w.claims("dest") != 0 {
				t.Errorf("after the stop: %v, %d claims", c, w.claims("dest"))
			}
		})
	}
}

// The lease can end during a stop too.
func TestLeaseLostDuringStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.grace = time.Hour
	answer, reached, _ := holdAt("MAIL")
	s := w.sink(sink.Config{Answer: answer, Offer: []string{}})
	w.route("example.test", "dest", 2, s.Addr())
	w.acceptMany(2, "example.test")
	w.runAll()
	w.receive("MAIL", reached)
	n := w.nodes["a"]
	n.stopRun()
	w.await("the stop has begun", func() bool { return w.claims("dest") == 1 })
	n.lose()
	n.stop()
	if c := w.counter("dest"); c.Pending != 2 || c.InDoubt != 0 || w.claims("dest") != 0 {
		t.Errorf("after the stop: %v, %d claims", c, w.claims("dest"))
	}
}

// Without a cluster to take the outcome, a stop ends all the same.
func TestStopWithoutLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.grace, w.timing.Commit = 20*time.Millisecond, 20*time.Millisecond
	answer, reached, release := holdAt(sink.Dot)
	s := w.sink(sink.Config{Answer: answer})
	w.route("example.test", "dest", 2, s.Addr())
	id := w.accept(testSender, "user@example.test")
	w.runAll()
	w.receive("the dot", reached)
	n := w.nodes["a"]
	n.set(0, false)
	close(release)
	must(t, s.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Committed == 1 }))
	ended := make(chan struct{})
	go func() {
		n.stop()
		close(ended)
	}()
	w.receive("the stop", ended)
	if got := w.recipient(id, 0).State; got != pb.RecipientState_RECIPIENT_STATE_PENDING {
		t.Errorf("%s without a log", got)
	}
}

// A destination without a host is a failure like others.
func TestNoHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	n := w.nodes["a"]
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	id := w.accept(testSender, "user@example.test")
	w.must(w.any(), claimEvent(1, id, "dest", false, 0), nil)
	s, err := New(n.config())
	must(t, err)
	a := &attempt{id: id, grant: n.state.Claims(w.any())[0], config: &pb.DestinationConfig{}}
	s.carry(context.Background(), a)
	if failure := a.hostFailure(); failure == nil || failure.Cause != relay.CauseDNS {
		t.Errorf("got %v", failure)
	}
}

// Claims that are refused again and again don't fill the log: another node's
// probe is still under way when this one gets the destination.
func TestRefusedClaimsPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	stopped := w.clock.now()
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	first := w.owner("dest")
	id := w.accept(testSender, "user@example.test")
	w.destinationFails("dest", stopped) // the other one's turn, which claims
	prober := w.owner("dest")
	w.must(prober.Incarnation(), claimEvent(1, id, "dest", true, 0), nil)
	prober.state.TakeChanges()
	w.destinationFails("dest", stopped) // back to the first
	if w.owner("dest") != first {
		t.Fatal("the destination didn't come back")
	}
	config := first.config()
	config.Now = func() time.Time { return stopped.Add(time.Minute) }
	scheduler, err := New(config)
	must(t, err)
	first.runWith(scheduler)
	s := w.sink(sink.Config{})
	other := "other"
	for name := other; ; name += "x" {
		w.route("other.test", name, 2, s.Addr())
		if other = name; w.owner(name) == first {
			break
		}
	}
	for i := range uint64(20) {
		w.accept(testSender, "user@example.test")
		w.accept(testSender, "user@other.test")
		w.awaitDelivered(other, i+1)
	}
	claims := w.log.count(func(e *pb.Event) bool {
		return e.Incarnation == first.Incarnation() && len(e.GetAttemptStarted().GetClaims()) > 0 &&
			e.GetAttemptStarted().Claims[0].Destination == "dest"
	})
	if claims != 1 {
		t.Errorf("%d proposals of a claim that is refused, while the clock stands", claims)
	}
}
