package cluster

import (
	"context"
	"fmt"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// answerPing grants a lease or says why not. Without a proof of leadership
// there is no answer at all: the commit index would mean nothing.
func (c *Cluster) answerPing(ctx context.Context, req *pb.PingRequest) (*pb.PingResponse, error) {
	received, wall := c.cfg.Monotonic(), c.cfg.Now()
	l := c.leadership.Load()
	if l == nil {
		return nil, errNotLeader
	}
	l.hear(req.Incarnation, received)
	commit, err := l.verify(ctx)
	if err != nil {
		return nil, err
	}
	resp := &pb.PingResponse{CommitIndex: commit, Time: wall.UnixNano(), Term: l.term, Granted: true, DisksLow: l.disksLow()}
	if err := l.grant(req, received); err != nil {
		resp.Granted, resp.Text = false, err.Error()
	}
	resp.ClusterTime = l.clusterTime(req.Time, received)
	return resp, nil
}

// hear counts a ping, unless the last one found the node unfit: it would keep
// its destinations then, and could do nothing for them.
func (l *leadership) hear(incarnation uint64, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.watched[incarnation]; w != nil && !w.down && w.unfit == nil {
		w.heard = at
	}
}

// grant takes a ping that came at received.
func (l *leadership) grant(req *pb.PingRequest, received time.Duration) error {
	record, ok := l.c.cfg.State.Node(req.Node)
	if !ok || !record.Active || record.Incarnation != req.Incarnation {
		return fmt.Errorf("incarnation %x of node %s is not active", req.Incarnation, req.Node)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return errNotLeader
	}
	w := l.watched[req.Incarnation]
	if w == nil { // it came up since the last review
		now := l.c.cfg.Monotonic()
		w = &watched{seen: now, heard: now}
		l.watched[req.Incarnation] = w
	}
	if w.down {
		return fmt.Errorf("node %s is being declared down", req.Node)
	}
	w.diskLow = req.DiskLow
	w.clocked, w.clockWrong, w.clock = true, req.ClockWrong, time.Duration(req.Time)-received
	if w.unfit = l.unfit(req, w); w.unfit != nil {
		return w.unfit
	}
	w.heard = max(w.heard, received)
	_, err := l.agreedClock()
	return err
}

// unfit is what is wrong with a node itself, nil for nothing. Guarded by mu.
func (l *leadership) unfit(req *pb.PingRequest, w *watched) error {
	if err := l.clockError(req.Node, w); err != nil {
		return err
	}
	if old := l.committedLongAgo(); req.AppliedIndex < old {
		return fmt.Errorf("node %s has applied %d, %d was committed %s ago", req.Node, req.AppliedIndex, old, l.c.cfg.Timing.Lag)
	}
	return nil
}

// committedLongAgo is the commit index of a Lag ago, 0 where this leader is
// younger than that. Guarded by mu.
func (l *leadership) committedLongAgo() uint64 {
	now := l.c.cfg.Monotonic()
	index := uint64(0)
	for _, sample := range l.commits {
		if now-sample.at < l.c.cfg.Timing.Lag {
			break
		}
		index = sample.index
	}
	return index
}
