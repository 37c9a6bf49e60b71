package cluster

import (
	"testing"
	"time"
)

// A node that has its lease may be behind: a barrier waits for what is committed.
func TestBarrierWaitsForWhatIsCommitted(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	leader.configure()
	n := w.nodes[w.others(leader.name)[0]]
	eventually(t, "nothing is committed that the node hasn't", func() bool {
		return n.cluster.Barrier(t.Context()) == nil && n.state.AppliedIndex() == leader.state.AppliedIndex()
	})
	w.net.own(n.raft, "its raft") // its pings go on
	w.net.isolate("its raft", leader.name)
	leader.must(message(t, testBody), testBody)
	if err := n.cluster.Barrier(within(t, 200*time.Millisecond)); err == nil {
		t.Errorf("a node with %d pending recipients is past the barrier, 1 was committed before", n.pending())
	}
	w.net.healAll()
	eventually(t, "the node is past the barrier", func() bool { return n.cluster.Barrier(t.Context()) == nil })
	if got := n.pending(); got != 1 {
		t.Errorf("%d pending recipients past the barrier, want 1", got)
	}
}
