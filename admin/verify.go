package admin

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// VerifyState marks an index in the log and compares what every node's state
// came to there.
func (s *clusterService) VerifyState(ctx context.Context, _ *pb.VerifyStateRequest) (*pb.VerifyStateResponse, error) {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, readError(err, "random bytes")
	}
	event := &pb.Event{Kind: &pb.Event_VerifyMarked{VerifyMarked: &pb.VerifyMarked{Nonce: nonce}}}
	index, err := s.propose(ctx, event, "verification")
	if err != nil {
		return nil, err
	}
	out := &pb.VerifyStateResponse{Index: index, Nodes: s.digests(ctx, index, nonce)}
	out.Mismatches = mismatches(out.Nodes)
	return out, nil
}

// digests asks all nodes at once; one that doesn't answer costs its error, not
// the others' answers.
func (s *clusterService) digests(ctx context.Context, index uint64, nonce []byte) []*pb.VerifyStateResponse_Node {
	s.settle(ctx, index)
	ctx, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	var out []*pb.VerifyStateResponse_Node
	for _, member := range s.Cluster.Members(ctx) {
		out = append(out, &pb.VerifyStateResponse_Node{Name: member.Name})
	}
	slices.SortFunc(out, func(a, b *pb.VerifyStateResponse_Node) int { return strings.Compare(a.Name, b.Name) })
	var asking sync.WaitGroup
	for _, node := range out {
		asking.Go(func() {
			answer, err := s.Cluster.Digests(ctx, node.Name, nonce)
			if err != nil {
				node.Error = status.Convert(err).Message()
				return
			}
			node.Digests = answer.Digests
		})
	}
	asking.Wait()
	return out
}

// settle gives the nodes time to apply the mark. One that doesn't come to it is
// named by what it answers.
func (s *clusterService) settle(ctx context.Context, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	if err := s.Cluster.WaitEverywhere(ctx, index); err != nil {
		s.Logger.Warn("verification: not every node has applied the mark", "index", index, "error", err)
	}
}

// mismatches names the nodes that differ from the majority of those that
// answered, by family; all of them where there is no majority.
func mismatches(nodes []*pb.VerifyStateResponse_Node) []*pb.VerifyStateResponse_Mismatch {
	answered := slices.DeleteFunc(slices.Clone(nodes), func(n *pb.VerifyStateResponse_Node) bool { return n.Error != "" })
	var out []*pb.VerifyStateResponse_Mismatch
	for _, family := range families(answered) {
		votes := map[digest]int{}
		for _, node := range answered {
			votes[digestOf(node, family)]++
		}
		if len(votes) == 1 {
			continue
		}
		for _, node := range answered {
			if votes[digestOf(node, family)]*2 <= len(answered) {
				out = append(out, &pb.VerifyStateResponse_Mismatch{Node: node.Name, Family: family})
			}
		}
	}
	return out
}

type digest struct {
	sum, rows uint64
	missing   bool
}

func digestOf(node *pb.VerifyStateResponse_Node, family string) digest {
	for _, d := range node.Digests {
		if d.Family == family {
			return digest{sum: d.Sum, rows: d.Rows}
		}
	}
	return digest{missing: true}
}

func families(nodes []*pb.VerifyStateResponse_Node) []string {
	var all []string
	for _, node := range nodes {
		for _, d := range node.Digests {
			all = append(all, d.Family)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
