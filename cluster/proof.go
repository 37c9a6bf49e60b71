package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// proof shows, to all who asked before it began, that this node still leads.
type proof struct {
	done chan struct{}
	// Valid once done is closed.
	err    error
	commit uint64 // what was committed when it began, as the state machine counts
}

func newProof() *proof { return &proof{done: make(chan struct{})} }

var errNotLeader = errors.New("this node is not the leader")

// verify waits for a proof that begins from now on, and returns the commit
// index that everyone who reads the log must see.
func (l *leadership) verify(ctx context.Context) (commit uint64, err error) {
	l.mu.Lock()
	p := l.proof
	l.mu.Unlock()
	kick(l.proofDue)
	select {
	case <-p.done:
		return p.commit, p.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-l.ctx.Done():
		return 0, errNotLeader
	}
}

// prove makes one proof at a time; it serves all who asked meanwhile.
func (l *leadership) prove() {
	t := l.c.cfg.Timing
	last := l.c.cfg.Monotonic() - t.Verify
	for {
		select {
		case <-l.proofDue:
		case <-l.ctx.Done():
			return
		}
		if !sleep(l.ctx, last+t.Verify-l.c.cfg.Monotonic()) {
			return
		}
		last = l.c.cfg.Monotonic()
		l.mu.Lock()
		p := l.proof
		l.proof = newProof()
		l.mu.Unlock()
		if p.commit, p.err = l.c.visibleCommit(); p.err == nil {
			p.err = l.proveSince(last)
		}
		close(p.done)
	}
}

// proveSince wants the word of a majority on something that it was asked at
// start or later. VerifyLeader makes raft ask; see transport for why it alone
// doesn't do.
func (l *leadership) proveSince(start time.Duration) error {
	r := l.c.raft.Load()
	self := raft.ServerID(l.c.raftID)
	for {
		if err := r.VerifyLeader().Error(); err != nil {
			return err
		}
		if l.ctx.Err() != nil || r.CurrentTerm() != l.term {
			return errNotLeader
		}
		if l.c.transport.acknowledged(l.c.configuration(), self, l.term, start) {
			return nil
		}
	}
}
