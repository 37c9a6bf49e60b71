package cluster

import (
	"slices"
	"testing"
)

func TestFirstStartAllAtOnce(t *testing.T) {
	for _, store := range []string{LogStoreWAL, LogStoreBoltDB} {
		t.Run(store, func(t *testing.T) {
			w := newWorld(t, "a", "b", "c")
			w.logStore = store
			w.startAll()
			w.awaitLeased(w.names...)
			w.nodes["b"].configure()
			for _, name := range w.names {
				w.nodes[name].must(message(t, testBody), testBody)
			}
			w.checkEqual(w.names...)
			id := w.nodes["a"].state.ClusterID()
			for _, name := range w.names {
				n := w.nodes[name]
				if got := n.cluster.clusterID(); got != id || id == "" {
					t.Errorf("%s has cluster id %q, a has %q", name, got, id)
				}
				if got := n.pending(); got != 3 {
					t.Errorf("%s has %d pending recipients, want 3", name, got)
				}
				eventually(t, name+" is current", n.cluster.Current)
				if members := n.cluster.Members(); len(members) != 3 || slices.ContainsFunc(members, func(m Member) bool { return !m.Voter }) {
					t.Errorf("%s lists members %+v", name, members)
				}
			}
		})
	}
}

func TestFirstStartOneByOne(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	// The one to make the cluster comes last.
	w.nodes["c"].start()
	w.nodes["b"].start()
	w.nodes["a"].start()
	w.awaitLeased(w.names...)
	w.checkEqual(w.names...)
}

func TestSingleNode(t *testing.T) {
	w := newWorld(t, "a")
	n := w.nodes["a"]
	n.join = nil
	n.start()
	w.awaitLeased("a")
	n.configure()
	n.must(message(t, testBody), testBody)
	incarnation := n.cluster.Incarnation()
	n.stop()
	n.start()
	w.awaitLeased("a")
	if n.cluster.Incarnation() == incarnation {
		t.Error("a restart has the same incarnation")
	}
	if got := n.pending(); got != 1 {
		t.Errorf("%d pending recipients after a restart, want 1", got)
	}
}

func TestLateNodeJoins(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	w.nodes["a"].configure()
	d := w.add("d")
	d.join = []string{w.nodes["b"].admin}
	d.start()
	w.awaitLeased("d")
	d.must(message(t, testBody), testBody)
	w.checkEqual("a", "b", "c", "d")
	if n := len(w.nodes["a"].cluster.Members()); n != 4 {
		t.Errorf("%d members, want 4", n)
	}
}
