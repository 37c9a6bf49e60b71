package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// lease is this node's right to act, until a moment of its monotonic clock.
type lease struct {
	mu     sync.Mutex // guards the fields below
	grants []grant    // not ended yet as of the latest, oldest first

	changed broadcast
	renewed chan struct{} // capacity 1
}

func (l *lease) init() { l.renewed = make(chan struct{}, 1) }

// grant is one answered ping: a lease until then, by a leader whose log was
// committed up to there.
type grant struct {
	until  time.Duration
	commit uint64
}

func (l *lease) renew(now, until time.Duration, commit uint64) {
	l.mu.Lock()
	l.grants = slices.DeleteFunc(l.grants, func(g grant) bool { return g.until <= now })
	lapsed := len(l.grants) == 0
	l.grants = append(l.grants, grant{until: until, commit: commit})
	l.mu.Unlock()
	if lapsed {
		// watchLease may have missed it; who looked meanwhile waits for the change.
		l.changed.fire()
	}
	kick(l.renewed)
}

func (l *lease) drop() {
	l.mu.Lock()
	l.grants = nil
	l.mu.Unlock()
	kick(l.renewed)
}

func (l *lease) until() (until time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.grants {
		until = max(until, g.until)
	}
	return until
}

// current reports whether any lease that holds was granted no later in the log
// than what is applied here: under load the latest one is always a little ahead.
func (l *lease) current(now time.Duration, applied uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.grants, func(g grant) bool { return now < g.until && applied >= g.commit })
}

// Leased reports whether this node may claim, deliver and accept now.
func (c *Cluster) Leased() bool { return c.cfg.Monotonic() < c.LeaseUntil() }

// LeaseUntil is when the lease ends, on Config.Monotonic; it may be past.
func (c *Cluster) LeaseUntil() time.Duration {
	return c.lease.until()
}

// LeaseChanged returns a channel that is closed at the next change of Leased.
// Take it before asking.
func (c *Cluster) LeaseChanged() <-chan struct{} { return c.lease.changed.wait() }

// Current reports whether the state here has everything that was committed
// before the lease was granted: only then may it refuse something for good.
func (c *Cluster) Current() bool {
	return c.lease.current(c.cfg.Monotonic(), c.cfg.State.AppliedIndex())
}

// watchLease announces the gain and the loss of the lease, the loss by a timer.
func (c *Cluster) watchLease(ctx context.Context) {
	held := false
	since := c.cfg.Now() // of the present state
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		left := c.LeaseUntil() - c.cfg.Monotonic()
		if left > 0 {
			timer.Reset(left)
		}
		if now := left > 0; now != held {
			held = now
			c.sayLease(held, since)
			since = c.cfg.Now()
			c.lease.changed.fire()
		}
		select {
		case <-timer.C:
		case <-c.lease.renewed:
		case <-ctx.Done():
			c.lease.drop()
			c.lease.changed.fire()
			return
		}
	}
}

// sayLease tells what an operator is woken for: a node without a lease takes
// and delivers nothing.
func (c *Cluster) sayLease(held bool, since time.Time) {
	lasted := c.cfg.Now().Sub(since)
	if held {
		c.log.Warn("quorum: the node has its lease and takes and delivers mail", "without_since", since, "without_for", lasted)
		return
	}
	c.metrics.leasesLost.Inc()
	c.log.Error("no quorum: the node lost its lease, it takes and delivers nothing until it is back",
		"reason", c.whyNoLease(), "leased_since", since, "leased_for", lasted)
}

// keepLease pings the leader while an incarnation is active: at once where there
// is a new leader, and often while it grants nothing. Survivors of a leader have
// what is left of their lease to find the next one.
func (c *Cluster) keepLease(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	reason := ""
	for {
		moved, changed := c.leaderMoved.wait(), c.sessions.wait()
		next := c.cfg.Monotonic() + c.cfg.Timing.Ping
		if s := c.session.Load(); s != nil {
			refusal := c.renewLease(ctx, moved, s)
			c.denied(refusal)
			// A ping may fail while the lease holds: the next one comes in time.
			if refusal != "" && refusal != reason && ctx.Err() == nil && !c.Leased() {
				c.log.Info("no lease", "reason", refusal)
				reason = refusal
			}
			if refusal == "" {
				reason = ""
			} else {
				next = c.cfg.Monotonic() + c.cfg.Timing.again()
			}
		}
		timer.Reset(max(0, next-c.cfg.Monotonic()))
		select {
		case <-timer.C:
		case <-moved:
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// denied notes why the latest ping brought no lease, "" where it did.
func (c *Cluster) denied(reason string) { c.noLease.Store(&reason) }

// whyNoLease is "" while there is one: a ping may fail meanwhile.
func (c *Cluster) whyNoLease() string {
	if c.Leased() {
		return ""
	}
	return cmp.Or(*c.noLease.Load(), "the leader has granted no other one yet")
}

var errLeaderMoved = errors.New("leadership moved while the leader was asked")

// renewLease returns why there is no lease, "" where there is one. The ping ends
// when the leader moves: the earlier one may never answer.
func (c *Cluster) renewLease(ctx context.Context, moved <-chan struct{}, s *session) string {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() {
		select {
		case <-moved:
			cancel(errLeaderMoved)
		case <-ctx.Done():
		}
	})
	sent := c.cfg.Monotonic()
	resp, err := c.ping(ctx, s.incarnation)
	if err != nil && errors.Is(context.Cause(ctx), errLeaderMoved) {
		return errLeaderMoved.Error() // an operator may be told: no "context canceled"
	}
	if err != nil {
		return err.Error()
	}
	c.disksLow.Store(resp.DisksLow)
	if !resp.Granted {
		return resp.Text
	}
	return s.takeLease(sent, resp.CommitIndex)
}

// takeLease makes a lease of the answer to a ping, and says why not where that is
// none any more.
func (s *session) takeLease(sent time.Duration, commit uint64) string {
	s.mu.Lock() // the lease is dropped under it, too
	defer s.mu.Unlock()
	if s.ended || s.gone {
		return ErrIncarnationEnded.Error()
	}
	now, until := s.c.cfg.Monotonic(), sent+s.c.cfg.Timing.Lease
	if until <= now {
		return "the leader's grant came when the lease was over"
	}
	s.c.lease.renew(now, until, commit)
	return ""
}

// ClockOffset is the leader's clock less this node's, as of the last ping.
func (c *Cluster) ClockOffset() time.Duration { return time.Duration(c.clockOffset.Load()) }

// ping asks the leader, wherever it is. A ping that takes longer than a third
// of the lease is given up so that two more can follow.
func (c *Cluster) ping(ctx context.Context, incarnation uint64) (*pb.PingResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Lease/3)
	defer cancel()
	sent, wall := c.cfg.Monotonic(), c.cfg.Now()
	req := &pb.PingRequest{
		ClusterId: c.clusterID(), Node: c.cfg.Node, Incarnation: incarnation,
		AppliedIndex: c.cfg.State.AppliedIndex(), Time: wall.UnixNano(),
		ClockWrong: c.clock.trouble() != nil, DiskLow: c.diskLow(),
	}
	resp, err := c.pingLeader(ctx, req)
	if err != nil {
		return nil, err
	}
	// The leader stamps a ping when it comes in. The answer waits for a proof
	// of leadership, so half the round trip would be a worse guess than none.
	c.clockOffset.Store(resp.Time - wall.UnixNano())
	c.metrics.clockOffset.Set(c.ClockOffset().Seconds())
	if resp.ClusterTime != 0 {
		c.clock.agree(resp.ClusterTime, sent)
	}
	return resp, nil
}

func (c *Cluster) pingLeader(ctx context.Context, req *pb.PingRequest) (*pb.PingResponse, error) {
	leader := c.leader.Load()
	if leader.self {
		return c.answerPing(ctx, req)
	}
	if leader.address == "" {
		return nil, errNoLeader
	}
	client, err := c.pings.client(leader.at())
	if err != nil {
		return nil, err
	}
	return client.Ping(ctx, req)
}
