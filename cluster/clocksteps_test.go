package cluster

import (
	"errors"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const testDay = 24 * time.Hour

var clockSteps = []time.Duration{time.Hour, -time.Hour, 5 * testDay, -5 * testDay}

// nearNow: a time that some node stamped is that of the day.
func nearNow(at time.Time) bool { return time.Since(at).Abs() < time.Minute }

// A clock is set wrong by an hour or by days: what its node stamps meanwhile is
// right all the same, and the node is without a lease until its clock is right.
// The others go on.
func TestClockSteps(t *testing.T) {
	for _, who := range []string{"a follower", "the leader"} {
		t.Run(who, func(t *testing.T) {
			w := newWorld(t, "a", "b", "c")
			w.startAll()
			w.awaitLeased(w.names...)
			wrong := w.leader(w.names...)
			if who == "a follower" {
				wrong = w.nodes[w.others(wrong.name)[0]]
			}
			wrong.configure()
			for _, step := range clockSteps {
				wrong.stepClock(step)
			}
			w.checkEqual(w.names...)
		})
	}
}

// acceptAfterStep sets the clock and accepts a message. The lease lasts on for a
// moment, and ok is false where the machine was too busy for that.
func (n *testNode) acceptAfterStep(step time.Duration) (id relay.MessageID, ok bool) {
	t := n.w.t
	t.Helper()
	n.ahead.Add(int64(step))
	if now := n.cluster.Now(); !nearNow(now) {
		t.Errorf("%s: right after the step it is %s", step, now)
	}
	event := message(t, testBody)
	id = relay.MessageID(event.GetMessageAccepted().MessageId)
	err := n.propose(event, testBody)
	if err != nil && !errors.Is(err, ErrIncarnationEnded) && !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("%s: %v", step, err)
	}
	return id, err == nil
}

func (n *testNode) stepClock(step time.Duration) {
	t, w := n.w.t, n.w
	t.Helper()
	id, ok := n.acceptAfterStep(step)
	for !ok {
		n.ahead.Add(-int64(step))
		w.awaitLeased(n.name)
		id, ok = n.acceptAfterStep(step)
	}
	view, err := n.state.View()
	must(t, err)
	record, err := view.Message(id)
	must(t, err)
	must(t, view.Close())
	if at := time.Unix(0, record.AcceptedAt); !nearNow(at) {
		t.Errorf("%s: a message was stamped with %s", step, at)
	}
	eventually(t, "the node has no lease", func() bool { return !n.cluster.Leased() })
	w.awaitLeased(w.others(n.name)...)
	// It keeps no destinations that it can do nothing for.
	observer := w.nodes[w.others(n.name)[0]]
	var down *pb.NodeRecord
	eventually(t, "the node is declared down", func() bool {
		down, _ = observer.state.Node(n.name)
		return !down.Active
	})
	if at := time.Unix(0, down.DownSince); !nearNow(at) {
		t.Errorf("%s: down since %s", step, at)
	}
	eventually(t, "the node says why", func() bool {
		condition, err := observer.cluster.Condition(t.Context(), n.name)
		return err == nil && strings.Contains(condition.NoLease, "wall clock of this node is wrong")
	})
	if n.cluster.Leased() {
		t.Errorf("%s: it has a lease again", step)
	}
	n.ahead.Add(-int64(step))
	w.awaitLeased(n.name)
	eventually(t, "the node has nothing more to say", func() bool {
		condition, err := observer.cluster.Condition(t.Context(), n.name)
		return err == nil && condition.NoLease == ""
	})
	up, _ := n.state.Node(n.name)
	if at := time.Unix(0, up.UpSince); !nearNow(at) {
		t.Errorf("%s: up since %s", step, at)
	}
}

// A node that starts with a wrong clock knows it from the cluster before it
// comes up: its NodeUp would make the mail that it held wait for days.
func TestStartWithAWrongClock(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	n := w.nodes[w.others(w.leader(w.names...).name)[0]]
	n.stop()
	n.ahead.Store(int64(5 * testDay))
	n.start()
	eventually(t, "the node says why", func() bool {
		return strings.Contains(*n.cluster.noLease.Load(), "wall clock of this node is wrong")
	})
	if now := n.cluster.Now(); !nearNow(now) {
		t.Errorf("it is %s", now)
	}
	n.ahead.Store(0)
	w.awaitLeased(n.name)
	if record, _ := n.state.Node(n.name); !nearNow(time.Unix(0, record.UpSince)) {
		t.Errorf("up since %s", time.Unix(0, record.UpSince))
	}
}

// Where all clocks are set at once, the cluster follows; and so does a node
// alone, before it came up and after.
func TestAllClocksStep(t *testing.T) {
	for _, names := range [][]string{{"a"}, {"a", "b", "c"}} {
		w := newWorld(t, names...)
		w.startAll()
		w.awaitLeased(names...)
		for _, name := range names {
			w.nodes[name].ahead.Store(int64(testDay))
		}
		for _, name := range names {
			n := w.nodes[name]
			eventually(t, "the node follows its clock", func() bool {
				return n.cluster.Leased() && time.Until(n.cluster.Now()) > testDay-time.Minute
			})
		}
		for _, name := range names {
			w.nodes[name].stop()
		}
		for _, name := range names {
			w.nodes[name].start()
			w.nodes[name].ahead.Store(0)
		}
		w.awaitLeased(names...)
		for _, name := range names {
			if now := w.nodes[name].cluster.Now(); !nearNow(now) {
				t.Errorf("on %s it is %s after the restart", name, now)
			}
		}
	}
}
