package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// live keeps an incarnation of this node active: one after the other, each
// from NodeUp until the cluster declares it down.
func (c *Cluster) live(ctx context.Context) {
	select {
	case <-c.entered:
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		if err := c.catchUp(ctx); err != nil {
			continue // ctx ended, or the state did, which is fatal elsewhere
		}
		s, err := c.newSession(ctx)
		if err != nil {
			c.cfg.Fatal(err)
			return
		}
		if err := c.comeUp(ctx, s); err != nil {
			c.log.Info("not up yet", "error", err)
			s.end()
			pause := c.cfg.Timing.again()
			if errors.Is(err, errComeUpRefused) {
				pause = c.cfg.Timing.Ping // each try is an entry in the log
			}
			sleep(ctx, pause)
			continue
		}
		c.metrics.incarnations.Inc()
		c.log.Info("is up", "incarnation", fmt.Sprintf("%x", s.incarnation))
		c.session.Store(s)
		c.sessions.fire()
		c.awaitEnd(ctx, s)
		s.end()
		c.session.Store(nil)
		c.sessions.fire()
	}
}

// Barrier returns once the state here has everything that was committed before
// the call, by whichever node. It asks the leader once, as a ping does.
func (c *Cluster) Barrier(ctx context.Context) error {
	resp, err := c.ping(ctx, 0)
	if err != nil {
		return err
	}
	return c.cfg.State.WaitApplied(ctx, resp.CommitIndex)
}

// catchUp waits until the state has everything that was committed when the
// leader answered. A state that is older than what this node already delivered
// must not act.
func (c *Cluster) catchUp(ctx context.Context) error {
	reason := ""
	for {
		resp, err := c.ping(ctx, 0)
		if err == nil {
			// With a wrong clock it would get no lease, and be declared down again.
			err = c.clock.trouble()
		}
		if err == nil && c.clusterID() != "" {
			return c.cfg.State.WaitApplied(ctx, resp.CommitIndex)
		}
		if err != nil && err.Error() != reason && ctx.Err() == nil {
			reason = err.Error()
			c.log.Info("not up yet", "reason", reason)
			c.denied(reason)
		}
		moved := c.leaderMoved.wait()
		timer, cancel := context.WithTimeout(ctx, c.cfg.Timing.again())
		select {
		case <-moved:
		case <-timer.Done():
		}
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

var errComeUpRefused = errors.New("refused to come up")

// comeUp proposes NodeUp in the incarnation that it starts, and waits until it
// is part of the state here.
func (c *Cluster) comeUp(ctx context.Context, s *session) error {
	record, _ := c.cfg.State.Node(c.cfg.Node)
	event := &pb.Event{Time: c.Now().UnixNano(), Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{
		Node: c.cfg.Node, Incarnation: s.incarnation, Replaces: record.GetIncarnation(),
		Version: c.cfg.Version, AdminAddress: c.cfg.AdminAdvertise, SmtpAddress: c.cfg.SMTPAddress,
		RaftId: c.raftID, Reads: fsm.Version,
	}}}
	result, index, err := s.propose(ctx, laneControl, event, nil, func() {})
	if err != nil {
		return err
	}
	if result.Code != pb.EventResult_CODE_OK {
		return fmt.Errorf("%w: %s", errComeUpRefused, result.Text)
	}
	return c.cfg.State.WaitApplied(ctx, index)
}

// awaitEnd returns when s is no longer this node's active incarnation.
func (c *Cluster) awaitEnd(ctx context.Context, s *session) {
	for {
		changed := c.nodes.wait()
		record, _ := c.cfg.State.Node(c.cfg.Node)
		if record.GetIncarnation() != s.incarnation || !record.Active {
			c.log.Warn("was declared down, coming up anew", "incarnation", fmt.Sprintf("%x", s.incarnation))
			return
		}
		select {
		case <-changed:
		case <-s.inactive:
			c.log.Warn("was declared down, coming up anew", "incarnation", fmt.Sprintf("%x", s.incarnation))
			return
		case <-ctx.Done():
			return
		}
	}
}

// Incarnation is this node's active incarnation, 0 while there is none.
func (c *Cluster) Incarnation() uint64 {
	if s := c.session.Load(); s != nil {
		return s.incarnation
	}
	return 0
}

func newIncarnation() (uint64, error) {
	var buf [8]byte
	for {
		if _, err := rand.Read(buf[:]); err != nil {
			return 0, errors.Join(errors.New("new incarnation"), err)
		}
		if n := binary.BigEndian.Uint64(buf[:]); n != 0 {
			return n, nil
		}
	}
}
