package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

func counterValue(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	must(t, c.Write(&m))
	return m.Counter.GetValue()
}

// mutedFollower is a cluster in which a follower's entries reach the leader but
// the answers don't come back.
func mutedFollower(t *testing.T) (w *world, leader, follower, third *testNode) {
	w = steadyWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	w.nodes["a"].configure()
	leader = w.leader(w.names...)
	rest := w.others(leader.name)
	follower, third = w.nodes[rest[0]], w.nodes[rest[1]]
	w.net.mute(follower.name, leader.name)
	return w, leader, follower, third
}

// The leader applies an entry and is gone before its answer arrives.
func TestAppliedWithoutAnswer(t *testing.T) {
	w, leader, follower, third := mutedFollower(t)
	result := make(chan error, 1)
	go func() { result <- follower.propose(message(t, testBody), testBody) }()
	eventually(t, "the entry is applied", func() bool { return third.pending() == 1 })
	select {
	case err := <-result:
		t.Fatalf("there is an outcome without an answer: %v", err)
	default:
	}
	w.net.isolate(leader.name, follower.name, third.name)
	w.elect(third.name, follower.name)
	if err := <-result; err != nil {
		t.Errorf("the repeated event: %v", err)
	}
	if counterValue(t, follower.cluster.metrics.repeated) == 0 {
		t.Error("nothing was proposed again")
	}
	w.net.healAll()
	w.awaitLeased(w.names...)
	w.checkEqual(w.names...)
	if got := third.pending(); got != 1 {
		t.Errorf("%d pending recipients, want 1", got)
	}
}

// The proposer gives up while the outcome is unknown; it is pursued all the same.
func TestPursuedInBackground(t *testing.T) {
	w, leader, follower, third := mutedFollower(t)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	result := make(chan error, 1)
	event := message(t, testBody)
	go func() {
		_, _, err := follower.cluster.Propose(ctx, event, testBody)
		result <- err
	}()
	eventually(t, "the entry is applied", func() bool { return third.pending() == 1 })
	giveUp()
	if err := <-result; !errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrNoQuorum) {
		t.Fatalf("got %v, want ErrUnknownOutcome", err)
	}
	w.net.isolate(leader.name, follower.name, third.name)
	w.elect(third.name, follower.name)
	s := follower.cluster.session.Load()
	eventually(t, "nothing is open", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.open) == 0
	})
	if got := third.pending(); got != 1 {
		t.Errorf("%d pending recipients, want 1", got)
	}
	w.net.healAll()
}

// An incarnation that ends with events under way: they come to an error, and
// the room they took is given back.
func TestIncarnationEndsUnderWay(t *testing.T) {
	w, leader, follower, third := mutedFollower(t)
	result := make(chan error, 1)
	go func() { result <- follower.propose(message(t, testBody), testBody) }()
	eventually(t, "the entry is applied", func() bool { return third.pending() == 1 })
	incarnation := follower.cluster.Incarnation()
	l := leader.cluster.leadership.Load()
	l.propose(&pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{Node: follower.name, Incarnation: incarnation, Term: l.term}}})
	if err := <-result; !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrIncarnationEnded) {
		t.Errorf("got %v, want ErrUnknownOutcome and ErrIncarnationEnded", err)
	}
	if follower.cluster.Leased() {
		t.Error("a lease outlived its incarnation")
	}
	w.net.healAll()
	w.awaitLeased(follower.name)
	if follower.cluster.Incarnation() == incarnation {
		t.Error("the same incarnation is up again")
	}
	room := follower.cluster.lanes[laneBodies].room
	if !room.TryAcquire(follower.cluster.cfg.Limits.BodyBytes) {
		t.Error("room was lost")
	}
}

func TestProposeRefusals(t *testing.T) {
	w := newWorld(t, "a")
	w.adjust = func(c *Config) { c.Limits.BodyBytes = fsm.MaxEvent }
	w.startAll()
	w.awaitLeased("a")
	n := w.nodes["a"]
	n.configure()

	large := make([]byte, fsm.MaxEvent)
	if _, _, err := n.cluster.Propose(t.Context(), message(t, large), large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}

	invalid := message(t, testBody)
	invalid.GetMessageAccepted().HeaderMessageId = "\xff"
	good := make(chan error, 1)
	go func() { good <- n.propose(message(t, testBody), testBody) }()
	if _, _, err := n.cluster.Propose(t.Context(), invalid, testBody); !errors.Is(err, ErrInvalid) {
		t.Errorf("not UTF-8: %v", err)
	}
	if err := <-good; err != nil {
		t.Errorf("beside an invalid one: %v", err)
	}

	room := n.cluster.lanes[laneBodies].room
	must(t, room.Acquire(t.Context(), fsm.MaxEvent))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := n.cluster.Propose(ctx, message(t, testBody), testBody); !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "too much is under way") {
		t.Errorf("no room: %v", err)
	}
	n.must(&pb.Event{Kind: &pb.Event_VerifyMarked{VerifyMarked: &pb.VerifyMarked{Nonce: []byte("x")}}}, nil) // the other lane
	room.Release(fsm.MaxEvent)
	n.must(message(t, testBody), testBody)
}

// Events of many proposers share entries, and each gets its own result.
func TestBatching(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	n := w.nodes[w.others(leader.name)[0]]
	n.configure()
	const events = 400
	errs := make(chan error, events)
	before := leader.cluster.raft.Load().LastIndex()
	for range events {
		go func() { errs <- n.propose(message(t, testBody), testBody) }()
	}
	for range events {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if entries := leader.cluster.raft.Load().LastIndex() - before; entries > events/2 {
		t.Errorf("%d entries for %d events at once", entries, events)
	}
	if got := n.pending(); got != events {
		t.Errorf("%d pending recipients, want %d", got, events)
	}
}
