package admin

import (
	"context"
	"net"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// Membership is how the services change who belongs to the cluster. Errors are
// gRPC statuses with a sentence for the operator.
type Membership interface {
	RemoveNode(ctx context.Context, node string, force bool) error
	PromoteNode(ctx context.Context, node string) error
	// TransferLeadership returns once another node leads, and names it.
	TransferLeadership(ctx context.Context, node string) (leader string, err error)
	// JoinVia makes this node join a cluster; where it doesn't vote when ctx ends
	// it says what it waits for, and where it voted before, that.
	JoinVia(ctx context.Context, addresses []string) (voter bool, waitsFor string, err error)
	// Sessions counts the SMTP sessions of a node.
	Sessions(ctx context.Context, node string) (int, error)
	// LeadsAlone reports whether this node leads and nobody else could.
	LeadsAlone() bool
}

func (s *clusterService) RemoveNode(ctx context.Context, req *pb.RemoveNodeRequest) (*pb.RemoveNodeResponse, error) {
	if req.Name == "" {
		return nil, invalid("name", "which node?")
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	if err := s.Membership.RemoveNode(ctx, req.Name, req.Force); err != nil {
		return nil, err
	}
	s.Logger.Info("administration", "removed", req.Name, "force", req.Force, "by", operatorOf(ctx), "request", requestOf(ctx).id)
	return &pb.RemoveNodeResponse{}, nil
}

func (s *clusterService) PromoteNode(ctx context.Context, req *pb.PromoteNodeRequest) (*pb.PromoteNodeResponse, error) {
	if req.Name == "" {
		return nil, invalid("name", "which node?")
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	if err := s.Membership.PromoteNode(ctx, req.Name); err != nil {
		return nil, err
	}
	s.Logger.Info("administration", "promoted", req.Name, "by", operatorOf(ctx), "request", requestOf(ctx).id)
	return &pb.PromoteNodeResponse{}, nil
}

func (s *clusterService) TransferLeadership(ctx context.Context, req *pb.TransferLeadershipRequest) (*pb.TransferLeadershipResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	if record, ok := s.State.Node(req.Name); ok && record.DrainingSince != 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "node %s is out of service and would give leadership away at once: `holdfast node resume %s` first", req.Name, req.Name)
	}
	leader, err := s.Membership.TransferLeadership(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	s.Logger.Info("administration", "leadership_to", leader, "by", operatorOf(ctx), "request", requestOf(ctx).id)
	return &pb.TransferLeadershipResponse{Leader: leader}, nil
}

func (s *clusterService) JoinCluster(ctx context.Context, req *pb.JoinClusterRequest) (*pb.JoinClusterResponse, error) {
	if len(req.Addresses) == 0 {
		return nil, invalid("addresses", "which cluster? Give the gRPC address of one of its nodes, such as 10.0.0.1:7500")
	}
	for _, address := range req.Addresses {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return nil, invalid("addresses", "address %q: want HOST:PORT", address)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	voter, waitsFor, err := s.Membership.JoinVia(ctx, req.Addresses)
	if err != nil {
		return nil, err
	}
	return &pb.JoinClusterResponse{Voter: voter, Text: waitsFor}, nil
}

// warnOfMembers says what the cluster can still lose.
func warnOfMembers(out *warner, nodes []*pb.GetStatusResponse_Node) {
	voters, alive := 0, 0
	for _, node := range nodes {
		isReplacement := func(other *pb.GetStatusResponse_Node) bool { return other.Name == node.Name && other.Alive }
		switch {
		case !node.Alive && slices.ContainsFunc(nodes, isReplacement):
			out.warn("node-down", node.Name, "the data folder that node %s lost counts as a voter until the new one has caught up", node.Name)
		case !node.Alive:
			out.warn("node-down", node.Name, "node %s does not answer", node.Name)
		case !node.Voter:
			out.warn("node-joining", node.Name, "node %s doesn't vote yet: it catches up", node.Name)
		}
		if !node.Voter {
			continue
		}
		voters++
		if node.Alive {
			alive++
		}
		// One that was stopped in good order is back in service once it is started.
		if node.Draining && node.Alive {
			out.warn("node-draining", node.Name, "node %s is out of service: `holdfast node resume %s` puts it back", node.Name, node.Name)
		}
	}
	switch quorum := voters/2 + 1; {
	case voters >= 3 && alive < voters && alive == quorum:
		// Fewer than three is a choice, and fewer than a quorum has a warning.
		out.warn("redundancy", "", "%d of %d nodes %s down: one more loss stops the cluster", voters-alive, voters, isOrAre(voters-alive))
	}
}

func isOrAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
