package cluster

import (
	"context"
	"fmt"
	"time"

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
	condition, err := c.Condition(ctx, nodeOf(raftID))
	if err != nil {
		return Condition{}, err
	}
	if condition.RaftID != raftID {
		return Condition{}, fmt.Errorf("node %s answers as %s, not as %s", nodeOf(raftID), condition.RaftID, raftID)
	}
	return condition, nil
}

// Condition asks a node.
func (c *Cluster) Condition(ctx context.Context, node string) (Condition, error) {
	if node == c.cfg.Node {
		return Condition{
			RaftID: c.raftID, AppliedIndex: c.cfg.State.AppliedIndex(), NoLease: c.whyNoLease(), Sessions: c.cfg.Sessions(),
			StuckBulks: c.cfg.StuckBulks(), Mismatches: c.mismatches(), Certificates: c.cfg.Certificates(),
		}, nil
	}
	record, ok := c.cfg.State.Node(node)
	if !ok {
		return Condition{}, fmt.Errorf("no node %q", node)
	}
	answer, err := c.helloTo(ctx, peerAt{node, record.AdminAddress})
	if err != nil {
		return Condition{}, fmt.Errorf("node %s: %w", node, err)
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
// node that doesn't answer is waited for until it can't have a lease any more.
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
	silentSince := c.cfg.Monotonic()
	for {
		answer, err := c.helloTo(ctx, peerAt{node.Name, node.AdminAddress})
		switch now := c.cfg.Monotonic(); {
		case err == nil && answer.AppliedIndex >= index:
			return nil
		case err == nil:
			silentSince = now
		case now-silentSince > c.cfg.Timing.Lease:
			return nil // no lease can be left
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
