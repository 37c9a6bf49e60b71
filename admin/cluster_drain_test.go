package admin_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// Node b of the world has two sessions, node c doesn't exist for the state.
func TestDrain(t *testing.T) {
	w := admintest.Start(t)
	conn, err := grpc.NewClient(w.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cluster := pb.NewClusterServiceClient(conn)
	drained, err := cluster.DrainNode(t.Context(), &pb.DrainNodeRequest{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if d := drained.Drain; d.Since == nil || d.SafeToStop || d.GetSessions() != 2 {
		t.Errorf("with two sessions: %v", d)
	}
	w.FoldAs(0, 0, &pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{Node: "b", Incarnation: 2, Term: 1}}}, nil)
	asked, err := cluster.GetDrain(t.Context(), &pb.GetDrainRequest{Name: "b"})
	if err != nil || !asked.Drain.SafeToStop {
		t.Errorf("once it is down: %v, %v", asked, err)
	}
	// Node a leads, and another one could.
	self, err := cluster.DrainNode(t.Context(), &pb.DrainNodeRequest{})
	if err != nil || self.Drain.Node != "a" || !self.Drain.Leads || self.Drain.SafeToStop {
		t.Errorf("the leader: %v, %v", self, err)
	}
	resumed, err := cluster.ResumeNode(t.Context(), &pb.ResumeNodeRequest{Name: "b"})
	if err != nil || resumed.Drain.Since != nil || resumed.Drain.SafeToStop {
		t.Errorf("resumed: %v, %v", resumed, err)
	}
	_, err = cluster.DrainNode(t.Context(), &pb.DrainNodeRequest{Name: "z"})
	wantCode(t, err, codes.NotFound, "no node z")
}
