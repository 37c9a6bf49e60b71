package admin

import (
	"context"
	"slices"
	"strings"

	pb "holdfast/proto/holdfast/v1"
)

type clusterService struct {
	pb.UnimplementedClusterServiceServer
	*node
}

func (s *clusterService) GetStatus(ctx context.Context, _ *pb.GetStatusRequest) (*pb.GetStatusResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	if w.caller.limited() {
		return w.limitedStatus(), nil
	}
	members := s.Cluster.Members(ctx)
	out := &pb.GetStatusResponse{
		Leader:       s.Cluster.Leader(),
		Stale:        !w.quorum,
		Nodes:        nodes(members, w.Nodes()),
		Queue:        queueCount(w.Counters()),
		ClusterId:    s.State.ClusterID(),
		Node:         s.Node,
		AppliedIndex: w.Index(),
		StateVersion: w.Version(),

		DestinationsDown: w.destinationsDown(),
	}
	if out.Warnings, err = w.warnings(out, members, s.Cluster.Health()); err != nil {
		return nil, readError(err, "the queue")
	}
	return out, nil
}

// nodes joins what raft knows of its members with what they said of themselves.
func nodes(members []Member, records []*pb.NodeRecord) []*pb.GetStatusResponse_Node {
	var out []*pb.GetStatusResponse_Node
	for _, member := range members {
		node := &pb.GetStatusResponse_Node{
			Name: member.Name, Voter: member.Voter, Alive: member.Alive, AppliedIndex: member.AppliedIndex,
		}
		for _, record := range records {
			if record.Name == member.Name {
				node.Version, node.AdminAddress, node.SmtpAddress = record.Version, record.AdminAddress, record.SmtpAddress
				node.Draining = record.DrainingSince != 0
				node.Reads = max(1, record.Reads)
			}
		}
		out = append(out, node)
	}
	slices.SortFunc(out, func(a, b *pb.GetStatusResponse_Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}
