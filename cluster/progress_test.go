package cluster

import (
	"context"
	"errors"
	"testing"
	"time"
)

// That this node doesn't reach another one doesn't say that it has no lease: the leader
// may reach it all the while.
func TestWaitEverywhereForWhomOnlyTheLeaderReaches(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	others := w.others(w.leader(w.names...).name)
	asked := w.nodes[others[0]]
	w.net.isolate(asked.name, others[1])
	index := asked.state.AppliedIndex()
	ctx, cancel := context.WithTimeout(t.Context(), 2*asked.cluster.cfg.Timing.Lease)
	defer cancel()
	if err := asked.cluster.WaitEverywhere(ctx, index); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("all have it, it says of a node that it can't ask: %v", err)
	}
	w.net.healAll()
	must(t, asked.cluster.WaitEverywhere(within(t, 20*time.Second), index))
}
