package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

func (n *testNode) voters() []string {
	var names []string
	for _, m := range n.cluster.Members() {
		if m.Voter {
			names = append(names, m.Node)
		}
	}
	return names
}

func (n *testNode) awaitVoters(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, "the voters are "+strings.Join(want, ", "), func() bool { return slices.Equal(n.voters(), want) })
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// insist makes a change again while it is refused, until it isn't: on a busy machine
// a node may not answer within Timing.Poll.
func insist(t *testing.T, what string, change func() error) {
	t.Helper()
	eventually(t, what, func() bool {
		err := change()
		if err != nil && status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

// remove has a node make another one no member any more.
func (n *testNode) remove(t *testing.T, other string) {
	t.Helper()
	insist(t, "remove node "+other, func() error { return n.cluster.RemoveNode(within(t, 20*time.Second), other, false) })
}

// giveTo has a node give leadership, wherever it is, to another one.
func (n *testNode) giveTo(t *testing.T, other string) {
	t.Helper()
	insist(t, "give leadership to node "+other, func() error {
		return n.cluster.TransferLeadership(within(t, 20*time.Second), other)
	})
}

// expectRemoval waits for the line with which a removed node stops.
func (n *testNode) expectRemoval(t *testing.T) {
	t.Helper()
	select {
	case err := <-n.fatal:
		if !errors.Is(err, ErrRemoved) {
			t.Errorf("node %s stops with %q", n.name, err)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("node %s goes on after its removal", n.name)
	}
	n.stop()
}

// From three to five nodes and back, the leader being among those that go, with
// mail accepted at each step.
func TestThreeToFiveAndBack(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Timing.Poll = time.Second / 2 } // who joins is asked within it, again and again
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	leader.configure()
	join := w.nodes["a"].join
	for _, name := range []string{"d", "e"} {
		n := w.add(name)
		n.join = join
		n.start()
		w.awaitLeased(name)
		n.must(message(t, testBody), testBody)
	}
	w.nodes["e"].awaitVoters(t, "a", "b", "c", "d", "e")
	w.checkEqual("a", "b", "c", "d", "e")

	first, last := leader.name, w.others(leader.name)[0]
	stays := w.others(first)[1]
	w.nodes["d"].remove(t, first)
	leader.expectRemoval(t)
	w.nodes["d"].must(message(t, testBody), testBody)
	w.nodes["e"].remove(t, last)
	w.nodes[last].expectRemoval(t)
	w.nodes["e"].awaitVoters(t, slices.Sorted(slices.Values([]string{stays, "d", "e"}))...)
	w.nodes["e"].must(message(t, testBody), testBody)
	// Once more: it is gone already.
	if err := w.nodes["e"].cluster.RemoveNode(within(t, 20*time.Second), last, false); status.Code(err) != codes.NotFound {
		t.Errorf("removed again: %v, want NotFound", err)
	}
	w.checkEqual(stays, "d", "e")
	if got := w.nodes["e"].pending(); got != 4 {
		t.Errorf("%d pending recipients, want 4", got)
	}
	if _, known := w.nodes["e"].state.Node(last); known {
		t.Errorf("the state still knows node %s", last)
	}
}

// A node under a name that was removed comes in with an empty folder.
func TestRemovedNodeJoinsAnew(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	n := w.nodes[w.others(leader.name)[0]]
	leader.remove(t, n.name)
	n.expectRemoval(t)
	n.start() // as a service that is restarted would
	n.expectRemoval(t)
	n.wipe()
	n.start()
	w.awaitLeased(n.name)
	w.checkEqual(w.names...)
}

func TestRemovalThatBreaksTheQuorum(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	dead, alive := w.nodes[w.others(leader.name)[0]], w.nodes[w.others(leader.name)[1]]
	dead.stop()
	err := alive.cluster.RemoveNode(within(t, 20*time.Second), alive.name, false)
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), dead.name+" doesn't") {
		t.Errorf("got %v, want a refusal that names node %s", err, dead.name)
	}
	// What is dead may go: two are left, and both answer.
	alive.remove(t, dead.name)
	alive.awaitVoters(t, slices.Sorted(slices.Values([]string{leader.name, alive.name}))...)
	dead.start()
	dead.expectRemoval(t)
}

// A wiped node answers at the address of the voter that it was, and that voter is gone
// for good: with one of the other two removed nothing would be committed any more.
func TestRemovalWhileANodeIsReplaced(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Timing.Stable = time.Hour }
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	wiped, other := w.nodes[w.others(leader.name)[0]], w.others(leader.name)[1]
	lost := wiped.cluster.raftID
	wiped.stop()
	wiped.wipe()
	wiped.start()
	eventually(t, "the wiped node is a member anew", func() bool { return len(leader.cluster.serversOf(wiped.name)) == 2 })
	eventually(t, "it answers as what it is now", func() bool {
		condition, err := leader.cluster.ConditionOf(t.Context(), wiped.cluster.raftID)
		return err == nil && condition.RaftID == wiped.cluster.raftID
	})
	if _, err := leader.cluster.ConditionOf(t.Context(), lost); err == nil {
		t.Error("it answers as the data folder that it lost, too")
	}
	eventually(t, "the refusal says to wait for the wiped node", func() bool { // once it answers within a poll
		err := leader.cluster.RemoveNode(within(t, 20*time.Second), other, false)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), wiped.name+" doesn't") {
			t.Fatalf("got %v, want a refusal that names node %s", err, wiped.name)
		}
		return strings.Contains(err.Error(), "wait until "+wiped.name+" votes") && !strings.Contains(err.Error(), "start it")
	})
}

// What takes the place of a lost data folder at another address is asked there, though
// the state has the old one until it votes.
func TestReplacedAtAnotherAddress(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Timing.Stable = time.Hour }
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	moved, other := w.nodes[w.others(leader.name)[0]], w.others(leader.name)[1]
	moved.stop()
	moved.wipe()
	moved.admin, moved.raft = freeAddress(t), freeAddress(t)
	for _, address := range []string{moved.admin, moved.raft} {
		w.net.own(address, moved.name)
	}
	moved.start()
	eventually(t, "it answers at its new address", func() bool {
		condition, err := leader.cluster.ConditionOf(t.Context(), moved.cluster.raftID)
		return err == nil && condition.RaftID == moved.cluster.raftID
	})
	eventually(t, "the refusal says to wait for it", func() bool { // once it answers within a poll
		err := leader.cluster.RemoveNode(within(t, 20*time.Second), other, false)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), moved.name+" doesn't") {
			t.Fatalf("got %v, want a refusal that names node %s", err, moved.name)
		}
		return strings.Contains(err.Error(), "wait until "+moved.name+" votes") && !strings.Contains(err.Error(), "start it")
	})
	eventually(t, "it is promoted", func() bool {
		return leader.cluster.PromoteNode(within(t, 20*time.Second), moved.name) == nil
	})
	w.awaitLeased(moved.name)
	w.checkEqual(w.names...)
}

func TestTransferLeadership(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	others := w.others(leader.name)
	for _, asked := range others {
		w.nodes[others[0]].giveTo(t, asked)
		eventually(t, asked+" leads", func() bool {
			known, _ := leader.cluster.Leader()
			return known == asked
		})
	}
	if err := leader.cluster.TransferLeadership(within(t, 20*time.Second), "z"); status.Code(err) != codes.NotFound {
		t.Errorf("to a node that isn't there: %v, want NotFound", err)
	}
}

// Where each hands over all get their turn; who doesn't lead hands nothing over.
func TestHandOverGoesRound(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	var led []string
	for range 4 {
		leader := w.leader(w.names...)
		led = append(led, leader.name)
		for _, other := range w.others(leader.name) {
			if err := w.nodes[other].cluster.HandOver(t.Context()); !errors.Is(err, errNotLeader) {
				t.Errorf("node %s doesn't lead and hands over: %v", other, err)
			}
		}
		eventually(t, "the others could lead", func() bool { return len(leader.cluster.successors()) == 2 })
		if err := leader.cluster.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all know who leads now", func() bool {
			known, _ := leader.cluster.Leader()
			return known != "" && known != leader.name && !slices.ContainsFunc(w.names, func(name string) bool {
				seen, _ := w.nodes[name].cluster.Leader()
				return seen != known
			})
		})
	}
	if slices.Sort(led[1:]); !slices.Equal(led[1:], w.names) {
		t.Errorf("%s led first, and then %v: want each once in three turns", led[0], led[1:])
	}
}

// A wiped node that is back has two entries for a while: leadership goes to the
// process that there is now, once that votes, and never to the one that was.
func TestTransferToNodeThatIsReplaced(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Timing.Stable = time.Hour }
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	n := w.nodes[w.others(leader.name)[0]]
	n.stop()
	n.wipe()
	n.start()
	eventually(t, "the wiped node is a member anew", func() bool { return len(leader.cluster.serversOf(n.name)) == 2 })
	transfer := func() error { return leader.cluster.TransferLeadership(within(t, 20*time.Second), n.name) }
	if err := transfer(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "doesn't vote yet") {
		t.Errorf("before it votes: %v", err)
	}
	eventually(t, "it is promoted", func() bool {
		return leader.cluster.PromoteNode(within(t, 20*time.Second), n.name) == nil
	})
	insist(t, "a transfer once it votes", transfer)
	eventually(t, "it leads", func() bool {
		known, _ := leader.cluster.Leader()
		return known == n.name
	})
}

// A draining leader gives leadership away, and doesn't keep it when it wins it.
func TestDrainingLeaderStepsAside(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	leader.must(&pb.Event{Kind: &pb.Event_NodeDraining{NodeDraining: &pb.NodeDraining{Node: leader.name}}}, nil)
	leadsNot := func() bool {
		known, _ := leader.cluster.Leader()
		return known != "" && known != leader.name
	}
	eventually(t, "another one leads", leadsNot)
	leader.giveTo(t, leader.name)
	eventually(t, "another one leads again", leadsNot)
	w.awaitLeased(w.names...)
}

func TestJoinByAnOperator(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	d := w.add("d").start()
	nobody := freeAddress(t)
	eventually(t, "it says that there is nobody to ask", func() bool {
		voter, waitsFor, err := d.cluster.JoinVia(within(t, time.Second/2), []string{nobody})
		if voter || err != nil {
			t.Fatalf("nobody to ask: %v, %v", voter, err)
		}
		return strings.Contains(waitsFor, "join address")
	})
	b := []string{w.nodes["b"].admin}
	for _, want := range []string{"", "node d is a member already, and votes"} {
		if voter, text, err := d.cluster.JoinVia(within(t, 20*time.Second), b); !voter || err != nil || text != want {
			t.Fatalf("voter %v, %q, %v; want a voter and %q", voter, text, err, want)
		}
	}
	w.awaitLeased("d")
	others := newWorld(t, "z")
	others.startAll()
	others.awaitLeased("z")
	z := others.nodes["z"].admin
	for address, want := range map[string]string{z: "empty " + d.dir + " first", nobody: "try again"} {
		eventually(t, address+" is refused with the words "+want, func() bool {
			voter, _, err := d.cluster.JoinVia(within(t, 20*time.Second), []string{address})
			if voter || err == nil {
				t.Fatalf("at %s: voter %v, %v; want a refusal", address, voter, err)
			}
			return strings.Contains(err.Error(), address) && strings.Contains(err.Error(), want)
		})
	}
	if _, _, err := d.cluster.JoinVia(within(t, 20*time.Second), []string{nobody}); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "empty") {
		t.Errorf("where nobody is: %v, want Unavailable and no word of emptying the folder", err)
	}
	w.net.own(nobody, "nobody")
	w.net.isolate("d", "nobody") // as a host that is off: it takes the whole time of a call
	eventually(t, "the second address counts where the first is silent", func() bool {
		voter, _, err := d.cluster.JoinVia(within(t, time.Second), []string{nobody, b[0]})
		return voter && err == nil
	})
	if invited := d.cluster.invitation(); !slices.Equal(invited, b) {
		t.Errorf("it asks %v for a cluster, want %v", invited, b)
	}
}

// A node that isn't stable is promoted at an operator's word.
func TestPromote(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Timing.Stable = time.Hour }
	w.startAll()
	w.awaitLeased(w.names...)
	d := w.add("d")
	d.join = w.nodes["a"].join
	d.start()
	a := w.nodes["a"]
	eventually(t, "d is a member", func() bool { return len(a.cluster.serversOf("d")) == 1 })
	eventually(t, "d is promoted", func() bool {
		err := a.cluster.PromoteNode(within(t, 20*time.Second), "d")
		if err != nil && status.Code(err) != codes.FailedPrecondition {
			t.Fatal(err)
		}
		return err == nil
	})
	a.awaitVoters(t, "a", "b", "c", "d")
	w.awaitLeased("d")
}

// The only node is asked by nobody for its new address, and so moves itself.
func TestOnlyNodeChangesItsAddress(t *testing.T) {
	w := newWorld(t, "a")
	a := w.nodes["a"].start()
	w.awaitLeased("a")
	a.stop()
	a.raft = freeAddress(t)
	w.net.own(a.raft, "a")
	a.start()
	w.awaitLeased("a")
	if members := a.cluster.Members(); len(members) != 1 || members[0].Address != a.raft {
		t.Errorf("members %+v, want one at %s", members, a.raft)
	}
}
