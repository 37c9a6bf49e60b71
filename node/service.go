package node

import (
	"context"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// leavePatience bounds how long a stop waits for the node to be out of service.
// What is then under way ends as the parts' own patience has it.
const leavePatience = 8 * time.Second

// outOfService reports whether the node is drained, or stopping.
func (n *Node) outOfService() bool {
	record, ok := n.state.Node(n.cfg.NodeID)
	return n.draining.Load() || ok && record.DrainingSince != 0
}

func (n *Node) sessions() int { return n.smtp.Sessions() }

func (n *Node) stuckBulks() []string { return n.keeper.Stuck() }

// followService closes and opens the front door as the log says.
func (n *Node) followService(ctx context.Context) error {
	for {
		changed := n.cluster.NodesChanged()
		n.smtp.Drain(n.outOfService())
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// leave takes the node out of service until it comes up again: others own its
// destinations from that index on, lead, and take the mail, before it stops.
func (n *Node) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	n.smtp.Drain(true)
	if !n.cluster.Leased() {
		return // nobody to agree with; the lease's end has stopped all already
	}
	stop := n.whileLeased(ctx, cancel)
	defer stop()
	event := &pb.Event{Kind: &pb.Event_NodeDraining{NodeDraining: &pb.NodeDraining{Node: n.cfg.NodeID, UntilUp: true}}}
	if _, index, err := n.cluster.Propose(ctx, event, nil); err != nil {
		n.log.Warn("stops without having left service", "error", err)
		return
	} else if err := n.state.WaitApplied(ctx, index); err != nil {
		n.log.Warn("stops without having left service", "error", err)
		return
	}
	if n.awaitIdle(ctx) {
		n.log.Info("out of service, safe to stop")
		return
	}
	n.log.Warn("stops with work under way", "attempts", len(n.state.Claims(n.cluster.Incarnation())), "sessions", n.smtp.Sessions())
}

// whileLeased ends the leaving where the lease does: then nothing can be agreed
// on any more.
func (n *Node) whileLeased(ctx context.Context, cancel context.CancelFunc) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			changed := n.cluster.LeaseChanged()
			if !n.cluster.Leased() {
				cancel()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// awaitIdle reports whether nothing is under way any more before ctx ends.
func (n *Node) awaitIdle(ctx context.Context) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		leader, _ := n.cluster.Leader()
		leads := leader == n.cfg.NodeID && !n.cluster.LeadsAlone()
		if !leads && n.smtp.Sessions() == 0 && len(n.state.Claims(n.cluster.Incarnation())) == 0 {
			return true
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
}
