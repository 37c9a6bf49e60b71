package admin

import (
	"context"
	"sync/atomic"
	"time"
)

// barrierPause is the time between two tries to find out what was committed: the
// leader may be a new one.
const barrierPause = 100 * time.Millisecond

// barrier brings this node's state to what was committed before the call; it asks once.
func (n *node) barrier(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.patience())
	defer cancel()
	return n.Cluster.Barrier(ctx)
}

// upToNow is barrier for a change, which waits for an election as proposing it would.
func (n *node) upToNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.patience())
	defer cancel()
	pause := time.NewTicker(barrierPause)
	defer pause.Stop()
	for {
		err := n.Cluster.Barrier(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return err
		}
	}
}

// sharedBarrier is a cluster that is asked one barrier at a time, however many callers
// wait: whoever asks for things that aren't there, over and over, must not fill the
// connection by which this node keeps its lease.
type sharedBarrier struct {
	Cluster
	turn chan struct{} // holds one token for whose turn it is
	// begun counts barriers. The others are of the latest one, and of whose turn it is.
	begun atomic.Uint64
	ended uint64
	err   error
}

func shareBarrier(c Cluster) *sharedBarrier {
	return &sharedBarrier{Cluster: c, turn: make(chan struct{}, 1)}
}

// Barrier is the cluster's, or what another caller has just got: one that began after this
// call came says as much.
func (s *sharedBarrier) Barrier(ctx context.Context) error {
	before := s.begun.Load()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.ended > before {
		return s.err
	}
	number := s.begun.Add(1)
	err := s.Cluster.Barrier(ctx)
	if ctx.Err() == nil {
		s.ended, s.err = number, err // else it was this caller's time that was over
	}
	return err
}
