package cluster

import (
	"strings"
	"testing"

	pb "holdfast/proto/holdfast/v1"
)

// Whom a node that joins can ask needn't see the leader: it asks who does.
func TestJoinByWhoKnowsTheLeader(t *testing.T) {
	w := newWorld(t, "a")
	a := w.nodes["a"].start()
	w.awaitLeased("a")
	d := w.add("d").start()
	knows := func(node, leader, address string) *pb.HelloResponse {
		return &pb.HelloResponse{Node: node, ClusterId: a.state.ClusterID(), LeaderNode: leader, LeaderAddress: address}
	}
	blocked, late := knows("b", "", ""), knows("c", "b", freeAddress(t))
	if step := d.cluster.joinBy(t.Context(), []*pb.HelloResponse{blocked}); step != "node b knows the cluster but no leader" {
		t.Errorf("by a node that knows no leader: %q", step)
	}
	if step := d.cluster.joinBy(t.Context(), []*pb.HelloResponse{blocked, late}); !strings.HasPrefix(step, "couldn't join yet: ") {
		t.Errorf("by a node that knows an earlier leader: %q", step)
	}
	fresh := &pb.HelloResponse{Node: "e"}
	if step := d.cluster.joinBy(t.Context(), []*pb.HelloResponse{fresh}); step != "" {
		t.Errorf("by a node without a cluster: %q", step)
	}
	other := &pb.HelloResponse{Node: "f", ClusterId: "another", LeaderNode: "f", LeaderAddress: freeAddress(t)}
	foreign := d.cluster.joinBy(t.Context(), []*pb.HelloResponse{blocked, other})
	if !strings.HasPrefix(foreign, "node b knows the cluster but no leader; the addresses are of several clusters: node b of "+a.state.ClusterID()+", node f of another; ") {
		t.Errorf("by nodes of two clusters: %q", foreign)
	}
	step := d.cluster.joinBy(t.Context(), []*pb.HelloResponse{fresh, blocked, late, knows("a", "a", a.admin)})
	if step != "joins the cluster: catches up" {
		t.Errorf("by all of them: %q", step)
	}
	w.awaitLeased("d")
}
