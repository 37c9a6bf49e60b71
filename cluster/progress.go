package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"holdfast/pki"
	pb "holdfast/proto/holdfast/v1"
)

// Condition is how a node says it is.
type Condition struct {
	RaftID       string // which of the node's data folders it runs on
	AppliedIndex uint64 // up to which its state has the log
	NoLease      string // why it has no lease, in words, "" where it has one
	Sessions     int    // at its front door
	// StuckBulks are the bulk operations that it can't read on though it leads; "" are all.
	StuckBulks []string
	// Mismatches is what it knows of states that differ.
	Mismatches []*pb.StateMismatch
	// Certificates are those of the node, and of the CAs that it trusts.
	Certificates []pki.Expiry
}

// ConditionOf asks a server of the configuration. A node that was wiped answers as
// its new data folder: under its earlier raft id nobody is there any more.
func (c *Cluster) ConditionOf(ctx context.Context, raftID string) (Condition, error) {
	condition, err := c.conditionAt(ctx, c.placeOf(raft.ServerID(raftID)))
	if err != nil {
		return Condition{}, err
	}
	if condition.RaftID != raftID {
		return Condition{}, fmt.Errorf("node %s answers as %s, not as %s", nodeOf(raftID), condition.RaftID, raftID)
	}
	return condition, nil
}

// placeOf is where a server of the configuration is asked: where its node's record says,
// or on the leader, until it votes, where it said itself. What replaces a lost data folder
// elsewhere has no record before.
func (c *Cluster) placeOf(id raft.ServerID) peerAt {
	if l := c.leadership.Load(); l != nil && !c.votes(id) {
		if at, ok := l.place(id); ok {
			return at
		}
	}
	record, _ := c.cfg.State.Node(nodeOf(string(id)))
	return peerAt{nodeOf(string(id)), record.GetAdminAddress()}
}

func (c *Cluster) votes(id raft.ServerID) bool {
	return slices.ContainsFunc(c.configuration(), func(server raft.Server) bool {
		return server.ID == id && server.Suffrage == raft.Voter
	})
}

// Condition asks a node.
func (c *Cluster) Condition(ctx context.Context, node string) (Condition, error) {
	record, _ := c.cfg.State.Node(node)
	return c.conditionAt(ctx, peerAt{node, record.GetAdminAddress()})
}

func (c *Cluster) conditionAt(ctx context.Context, at peerAt) (Condition, error) {
	if at.node == c.cfg.Node {
		return Condition{
			RaftID: c.raftID, AppliedIndex: c.cfg.State.AppliedIndex(), NoLease: c.whyNoLease(), Sessions: c.cfg.Sessions(),
			StuckBulks: c.cfg.StuckBulks(), Mismatches: c.mismatches(), Certificates: c.cfg.Certificates(),
		}, nil
	}
	if at.address == "" {
		return Condition{}, fmt.Errorf("no node %q", at.node)
	}
	answer, err := c.helloTo(ctx, at)
	if err != nil {
		return Condition{}, fmt.Errorf("node %s: %w", at.node, err)
	}
	condition := Condition{
		RaftID: answer.RaftId, AppliedIndex: answer.AppliedIndex, NoLease: answer.NoLease, Sessions: int(answer.Sessions),
		StuckBulks: answer.StuckBulks, Mismatches: answer.Mismatches,
	}
	for _, end := range answer.CertificateEnds {
		condition.Certificates = append(condition.Certificates, pki.Expiry{Use: end.Use, Name: end.Name, NotAfter: time.Unix(end.NotAfter, 0)})
	}
	return condition, nil
}

// WaitEverywhere returns once every node that may act has applied the index. A
// node that doesn't answer is waited for until the leader has declared it down: that
// this node doesn't reach it doesn't say that it has no lease.
func (c *Cluster) WaitEverywhere(ctx context.Context, index uint64) error {
	if err := c.cfg.State.WaitApplied(ctx, index); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range c.cfg.State.Nodes() {
		if node.Active && node.Name != c.cfg.Node {
			group.Go(func() error { return c.waitFor(ctx, node, index) })
		}
	}
	return group.Wait()
}

func (c *Cluster) waitFor(ctx context.Context, node *pb.NodeRecord, index uint64) error {
	ticker := time.NewTicker(c.cfg.Timing.Commit)
	defer ticker.Stop()
	for {
		answer, err := c.helloTo(ctx, peerAt{node.Name, node.AdminAddress})
		if err == nil && answer.AppliedIndex >= index {
			return nil
		}
		if current, ok := c.cfg.State.Node(node.Name); !ok || !current.Active {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
