package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// lead starts the leader's work when raft makes this node the leader and ends
// it when leadership is lost.
func (c *Cluster) lead(ctx context.Context) {
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case leads := <-c.leads:
			end()
			end = func() {}
			if leads {
				end = c.startLeadership(ctx)
			}
			kick(c.leaderPoke)
		case <-ctx.Done():
			return
		}
	}
}

// startLeadership returns what ends it and waits for that.
func (c *Cluster) startLeadership(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.runLeadership(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// leadership is what a leader knows in one term. None of it outlives the term.
type leadership struct {
	c    *Cluster
	ctx  context.Context
	term uint64

	proof    *proof        // the one that pings wait for; guarded by mu
	proofDue chan struct{} // capacity 1

	mu sync.Mutex // guards what follows
	// since is when this leader began to listen: nobody counts as silent for
	// what was before.
	since time.Duration
	// watched has the active incarnations.
	watched map[uint64]*watched
	commits []commitSample

	// places are where servers that join are asked: the state doesn't know that yet.
	places map[raft.ServerID]peerAt

	joiners map[raft.ServerID]joiner // guarded by Cluster.joining
}

// watched is what a leader knows of an active incarnation.
type watched struct {
	seen  time.Duration // first seen active
	heard time.Duration // last ping that found nothing wrong with it
	// clock is the time of day at the zero of the leader's monotonic clock by its
	// last ping: compared so, a leader's own wall clock that jumps moves no other.
	clock      time.Duration
	clocked    bool
	clockWrong bool  // as it says itself
	diskLow    bool  // as of its last ping
	unfit      error // what its last ping was refused for
	down       bool  // NodeDown is proposed: no lease any more
}

// commitSample: at that time the log was committed up to index.
type commitSample struct {
	at    time.Duration
	index uint64
}

func (c *Cluster) runLeadership(ctx context.Context) {
	r := c.raft.Load()
	term := r.CurrentTerm()
	if err := r.Barrier(c.cfg.Timing.RPC).Error(); err != nil {
		c.log.Info("leadership ended before it began", "term", term, "error", err)
		return
	}
	if r.State() != raft.Leader || r.CurrentTerm() != term {
		return // raft has announced the end, or will
	}
	l := &leadership{
		c: c, ctx: ctx, term: term,
		proof: newProof(), proofDue: make(chan struct{}, 1),
		since: c.cfg.Monotonic(), watched: map[uint64]*watched{},
		places: map[raft.ServerID]peerAt{}, joiners: map[raft.ServerID]joiner{},
	}
	c.log.Info("leads the cluster", "term", term)
	c.metrics.leaderships.Inc()
	c.leadership.Store(l)
	c.leaderMoved.fire() // pings find it now
	defer c.leadership.Store(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(l.prove)
	if c.cfg.State.ClusterID() == "" {
		l.createCluster()
	}
	l.watch()
}

// createCluster gives a new cluster its id.
func (l *leadership) createCluster() {
	id, err := newClusterID(l.c.Now())
	if err != nil {
		l.c.cfg.Fatal(err)
		return
	}
	l.propose(&pb.Event{Kind: &pb.Event_ClusterCreated{ClusterCreated: &pb.ClusterCreated{ClusterId: id}}})
}

// propose puts a leader's own events into the log. They hold in this term
// only, so they are neither forwarded nor proposed again.
func (l *leadership) propose(events ...*pb.Event) {
	for _, event := range events {
		event.Time = l.c.Now().UnixNano()
		if err := fsm.CheckVersion(event, l.c.cfg.State.Version()); err != nil {
			l.c.log.Error("the leader's events are not proposed", "error", err)
			return
		}
	}
	entry, err := fsm.EncodeEntry(events, make([][]byte, len(events)))
	if err != nil {
		l.c.log.Error("encode the leader's events", "error", err)
		return
	}
	out := l.c.apply(entry)
	if out.kind != outcomeApplied {
		l.c.log.Warn("the leader's events were not applied", "error", out.err)
	}
}

// watch declares nodes down that fell silent, or are unfit for a lease, and
// eligible those that stayed.
func (l *leadership) watch() {
	t := l.c.cfg.Timing
	pause := t.Margin / 4
	for {
		before := l.c.cfg.Monotonic()
		if !sleep(l.ctx, pause) {
			return
		}
		now := l.c.cfg.Monotonic()
		if now-before > pause+t.Margin {
			// The process or the machine stood still: pings came that nobody read.
			l.restart(now)
		}
		if events := l.review(now); len(events) > 0 {
			l.propose(events...)
		}
		l.stepAside()
	}
}

func (l *leadership) restart(now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = now
}

// review compares the active nodes with what was heard of them.
func (l *leadership) review(now time.Duration) []*pb.Event {
	c, t := l.c, l.c.cfg.Timing
	commit, err := c.visibleCommit()
	records := c.cfg.State.Nodes()

	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil { // else no ping is answered either, and the proof says why
		l.sample(now, commit)
	}
	active := map[uint64]*watched{}
	var events []*pb.Event
	for _, record := range records {
		if c.isRemoved(record.Name) {
			c.log.Info("forgets a node that was removed", "removed", record.Name)
			events = append(events, &pb.Event{Kind: &pb.Event_NodeRemoved{NodeRemoved: &pb.NodeRemoved{
				Node: record.Name, Incarnation: record.Incarnation,
			}}})
			continue
		}
		if !record.Active {
			continue
		}
		w := l.watched[record.Incarnation]
		if w == nil {
			w = &watched{seen: now}
		}
		active[record.Incarnation] = w
		silent := now - max(l.since, w.seen, w.heard)
		switch {
		case silent > t.Lease+t.Margin:
			if !w.down {
				c.log.Warn("declares a node down", "down", record.Name, "silent", silent, "unfit", w.unfit)
				c.metrics.nodesDown.Inc()
			}
			w.down = true
			events = append(events, &pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{
				Node: record.Name, Incarnation: record.Incarnation, Term: l.term,
			}}})
		case !record.Eligible && now-w.seen > t.Eligible:
			events = append(events, &pb.Event{Kind: &pb.Event_NodeEligible{NodeEligible: &pb.NodeEligible{
				Node: record.Name, Incarnation: record.Incarnation,
			}}})
		}
	}
	l.watched = active
	if raised := l.raise(records); raised != nil {
		events = append(events, raised)
	}
	return events
}

// isRemoved reports whether a node is in no configuration, neither in the
// committed one nor in one under way.
func (c *Cluster) isRemoved(node string) bool {
	committed, index := c.cfg.State.Configuration()
	isIt := func(server raft.Server) bool { return nodeOf(string(server.ID)) == node }
	return index > 0 && !slices.ContainsFunc(committed.Servers, isIt) && len(c.serversOf(node)) == 0
}

// stepAside gives leadership away where this node is out of service and another
// one isn't.
func (l *leadership) stepAside() {
	c := l.c
	record, ok := c.cfg.State.Node(c.cfg.Node)
	if !ok || record.DrainingSince == 0 || len(c.successors()) == 0 {
		return
	}
	if err := c.HandOver(l.ctx); err != nil && l.ctx.Err() == nil {
		c.log.Warn("this node is draining but couldn't give leadership away", "error", err)
	}
}

// sample keeps the commit index of the last Lag.
func (l *leadership) sample(now time.Duration, commit uint64) {
	l.commits = append(l.commits, commitSample{at: now, index: commit})
	for len(l.commits) > 1 && now-l.commits[1].at >= l.c.cfg.Timing.Lag {
		l.commits = l.commits[1:]
	}
}

// visibleCommit is the commit index as the state machine counts: entries
// without events never reach it, so on an idle log it would trail for ever.
func (c *Cluster) visibleCommit() (uint64, error) {
	index := c.raft.Load().CommitIndex()
	for ; index > 0; index-- {
		var entry raft.Log
		err := c.entries.GetLog(index, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			// Truncated, so it is part of the state here.
			return min(index, c.cfg.State.AppliedIndex()), nil
		}
		if err != nil {
			return 0, fmt.Errorf("read entry %d of the raft log: %w", index, err)
		}
		if entry.Type == raft.LogCommand || entry.Type == raft.LogConfiguration {
			break
		}
	}
	return index, nil
}
