package cluster

import (
	"testing"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// A newer node's event would stop every node of this build, at the same index
// after each restart. The leader refuses it, and goes on serving that node.
func TestLeaderRefusesWhatItCannotApply(t *testing.T) {
	w := newWorld(t, "a")
	w.startAll()
	w.awaitLeased("a")
	n := w.nodes["a"]
	n.configure()
	before := n.cluster.cfg.State.AppliedIndex()
	entry, err := fsm.EncodeEntry([]*pb.Event{{Incarnation: n.cluster.Incarnation(), Sequence: 1 << 40}}, [][]byte{nil})
	must(t, err)
	resp := n.cluster.serve(&pb.ProposeRequest{Id: 7, Entry: entry})
	if resp.Id != 7 || resp.Outcome != pb.ProposeResponse_OUTCOME_REFUSED || resp.Text == "" {
		t.Errorf("answer %v, want a refusal that says why", resp)
	}
	if after := n.cluster.cfg.State.AppliedIndex(); after != before {
		t.Errorf("the log grew from %d to %d", before, after)
	}
	must(t, n.propose(message(t, []byte("still here")), []byte("still here")))
}
