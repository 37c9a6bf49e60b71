package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// VerifyState marks an index in the log and compares what every node's state
// came to there, and says what reading the rows came to where nodes have.
func (s *clusterService) VerifyState(ctx context.Context, _ *pb.VerifyStateRequest) (*pb.VerifyStateResponse, error) {
	return s.verify(ctx)
}

func (n *node) verify(ctx context.Context) (*pb.VerifyStateResponse, error) {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, readError(err, "random bytes")
	}
	event := &pb.Event{Kind: &pb.Event_VerifyMarked{VerifyMarked: &pb.VerifyMarked{Nonce: nonce}}}
	index, err := n.propose(ctx, event, "verification")
	if err != nil {
		return nil, err
	}
	n.settle(ctx, index)
	nodes, damages := n.digests(ctx, nonce)
	return &pb.VerifyStateResponse{Index: index, Nodes: nodes, Mismatches: append(mismatches(nodes), damages...)}, nil
}

// settle gives the nodes time to apply the mark. One that doesn't come to it is
// named by what it answers.
func (n *node) settle(ctx context.Context, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, n.Patience)
	defer cancel()
	if err := n.Cluster.WaitEverywhere(ctx, index); err != nil {
		n.Logger.Warn("verification: not every node has applied the mark", "index", index, "error", err)
	}
}

// digests asks all nodes at once; one that doesn't answer costs its error, not
// the others' answers. damages are what nodes found in their own rows.
func (n *node) digests(ctx context.Context, nonce []byte) (nodes []*pb.VerifyStateResponse_Node, damages []*pb.StateMismatch) {
	ctx, cancel := context.WithTimeout(ctx, n.Patience)
	defer cancel()
	names := n.memberNames(ctx)
	answers := make([]*pb.DigestResponse, len(names))
	failed := make([]error, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() { answers[i], failed[i] = n.Cluster.Digests(ctx, name, nonce) })
	}
	asking.Wait()
	for i, name := range names {
		node := &pb.VerifyStateResponse_Node{Name: name}
		nodes = append(nodes, node)
		if failed[i] != nil {
			node.Error = status.Convert(failed[i]).Message()
			continue
		}
		check := answers[i].RowCheck
		node.Digests, node.RowsCheckedAt = answers[i].Digests, timestamp(check.GetTime())
		node.Unread = answers[i].QuickCheck.GetUnread()
		for _, d := range append(check.GetDamages(), answers[i].QuickCheck.GetDamages()...) {
			known := slices.ContainsFunc(damages, func(m *pb.StateMismatch) bool { return m.Node == name && m.Family == d.Family })
			if !known {
				damages = append(damages, &pb.StateMismatch{Node: name, Family: d.Family, Text: d.Text})
			}
		}
	}
	return nodes, damages
}

func (n *node) memberNames(ctx context.Context) []string {
	var names []string
	for _, member := range n.Cluster.Members(ctx) {
		names = append(names, member.Name)
	}
	slices.Sort(names)
	return names
}

// mismatches names the nodes that differ from the majority of those that
// answered, by family; all of them where there is no majority.
func mismatches(nodes []*pb.VerifyStateResponse_Node) []*pb.StateMismatch {
	answered := slices.DeleteFunc(slices.Clone(nodes), func(n *pb.VerifyStateResponse_Node) bool { return n.Error != "" })
	var out []*pb.StateMismatch
	for _, family := range families(answered) {
		votes := map[digest]int{}
		for _, node := range answered {
			votes[digestOf(node, family)]++
		}
		if len(votes) == 1 {
			continue
		}
		for _, node := range answered {
			if agree := votes[digestOf(node, family)]; agree*2 <= len(answered) {
				out = append(out, &pb.StateMismatch{Node: node.Name, Family: family,
					Text: fmt.Sprintf("its digest is that of %d of %d nodes", agree, len(answered))})
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
