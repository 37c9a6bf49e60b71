package delivery

import (
	"context"
	"log/slog"
	"time"

	"holdfast/fsm"
)

// Scheduler delivers what this node owns. All fields but the channels belong to
// the goroutine of Run.
type Scheduler struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	incarnation uint64 // whose claims are being carried out
	lastAttempt uint64
	queues      map[string]*queue
	dirty       map[string]bool
	wakes       wakes
	running     perLane // attempts, at all destinations
	starved     [fsm.Lanes]starved
	turns       map[string]bool // of those, the ones that are next
	kept        perLane         // attempts, for destinations whose turn it is
	releasing   map[uint64]bool // claims that are being given back
	unknown     map[uint64]bool // claims that the last reconciliation didn't know
	expiring    bool
	returning   bool
	stopping    bool

	asked chan question
	deaf  chan struct{} // closed when nobody listens to asked any more

	// Every goroutine ends by sending what is left to do, which this one does.
	done     chan func()
	active   int             // goroutines under way
	outcomes context.Context // of proposals: outlives Run's ctx by the grace
	attempts context.Context // of attempts: ends to abort them
}

// New checks the configuration.
func New(cfg Config) (*Scheduler, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Scheduler{
		cfg:       cfg,
		log:       cfg.Logger,
		metrics:   newMetrics(cfg.Metrics),
		queues:    make(map[string]*queue),
		dirty:     make(map[string]bool),
		turns:     make(map[string]bool),
		releasing: make(map[uint64]bool),
		asked:     make(chan question),
		deaf:      make(chan struct{}),
		done:      make(chan func()),
	}, nil
}

// Run delivers until ctx ends. It then lets attempts finish for the grace, and
// returns when all its goroutines have.
func (s *Scheduler) Run(ctx context.Context) error {
	outcomes, endOutcomes := context.WithCancel(context.WithoutCancel(ctx))
	defer endOutcomes()
	attempts, endAttempts := context.WithCancel(context.WithoutCancel(ctx))
	defer endAttempts()
	s.outcomes, s.attempts = outcomes, attempts

	timing := &s.cfg.Timing
	reconcile, rescan := time.NewTicker(timing.Reconcile), time.NewTicker(timing.Rescan)
	expire, sweep := time.NewTicker(timing.Expire), time.NewTicker(timing.Idle/10)
	for _, t := range []*time.Ticker{reconcile, rescan, expire, sweep} {
		defer t.Stop()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	lease := s.cfg.Lease.LeaseChanged()
	s.resync()
	for {
		s.scheduleDirty()
		timer.Reset(s.wakes.wait(s.cfg.Now()))
		select {
		case <-ctx.Done():
			s.stop(lease, endAttempts, endOutcomes)
			return nil
		case <-s.cfg.State.Changed():
			s.absorb(s.cfg.State.TakeChanges())
		case <-lease:
			lease = s.cfg.Lease.LeaseChanged()
			s.leaseChanged()
		case rest := <-s.done:
			s.finish(rest)
		case asked := <-s.asked:
			s.hear(asked)
		case <-timer.C:
			s.markDirty(s.wakes.due(s.cfg.Now())...)
		case <-reconcile.C:
			s.reconcile()
		case <-rescan.C:
			s.rescan()
		case <-expire.C:
			s.expire(ctx)
		case <-sweep.C:
			s.returnOrdered(ctx)
			s.closeIdle(s.cfg.Now().Add(-timing.Idle))
		}
	}
}

// start runs work on a goroutine of its own. What it returns is done afterwards
// on this one; nil is nothing.
func (s *Scheduler) start(work func() (rest func())) {
	s.active++
	go func() { s.done <- work() }()
}

func (s *Scheduler) finish(rest func()) {
	s.active--
	if rest != nil {
		rest()
	}
}

// mayAct: claims and attempts need a lease of the incarnation that is active.
func (s *Scheduler) mayAct() bool {
	return !s.stopping && s.incarnation != 0 && s.cfg.Lease.Leased()
}

// absorb takes over what the log has changed.
func (s *Scheduler) absorb(changes fsm.Changes) {
	// A claim that was proposed in one incarnation may be granted in the next.
	s.followIncarnation()
	if changes.Topology {
		s.resync()
	}
	for name := range changes.Destinations {
		s.refresh(name)
	}
	for name, lowest := range changes.Lowered {
		q := s.queues[name]
		if q == nil {
			continue
		}
		for i, key := range lowest {
			if key != nil {
				q.lanes[i].lower(key)
			}
		}
		s.markDirty(name)
	}
	for _, grant := range changes.Granted {
		s.granted(grant)
	}
}

// resync looks at everything again: nodes have come or gone, or the state was
// replaced as a whole.
func (s *Scheduler) resync() {
	s.followIncarnation()
	for name := range s.queues {
		s.refresh(name)
	}
	for _, record := range s.cfg.State.Destinations() {
		s.refresh(record.Config.Name)
	}
	for _, q := range s.queues {
		q.rewind()
		for i := range q.lanes {
			q.lanes[i].suspect = nil
		}
		if !q.proposed {
			q.unclaimAll() // a state that was replaced tells of no grants
		}
	}
}

// refresh takes over a destination's record and owner.
func (s *Scheduler) refresh(name string) {
	record, exists := s.cfg.State.Destination(name)
	owner, _ := s.cfg.State.Owner(name)
	owned := exists && owner == s.cfg.Node
	q := s.queues[name]
	if q == nil {
		if !owned {
			return
		}
		q = newQueue(name, record)
		s.queues[name] = q
	}
	if exists && q.update(record) {
		s.closeConns(q, q.takeIdle(time.Time{}))
		q.abortProbe()
	}
	if owned && !q.owned {
		q.ownedSince = s.cfg.Now()
		q.rewind()
	}
	q.owned = owned
	s.markDirty(name)
}

func (s *Scheduler) markDirty(names ...string) {
	for _, name := range names {
		s.dirty[name] = true
	}
}

// scheduleDirty looks first at those who waited for an attempt that has ended. One
// that has no use for it gives its turn on.
func (s *Scheduler) scheduleDirty() {
	for len(s.turns)+len(s.dirty) > 0 {
		for _, names := range []map[string]bool{s.turns, s.dirty} {
			for name := range names {
				delete(names, name)
				if q := s.queues[name]; q != nil {
					s.schedule(q)
				}
			}
		}
	}
}

// schedule starts what may start at a destination, and claims more.
func (s *Scheduler) schedule(q *queue) {
	defer s.settleTurns(q)
	if !s.mayAct() {
		return
	}
	if !q.owned {
		// Two nodes that wait for slots, each counting the other's claims as
		// slots in use, would wait for ever.
		s.releaseReady(q, every)
		s.dismiss(q, errNotOwner)
		s.closeConns(q, q.takeIdle(time.Time{}))
		if q.empty() {
			delete(s.queues, q.name)
		}
		return
	}
	if q.record.Suspended != nil {
		// What is under way ends; nothing else begins until it is resumed.
		s.releaseReady(q, every)
		s.dismiss(q, errSuspended)
		s.closeConns(q, q.takeIdle(time.Time{}))
		return
	}
	s.callOut(q)
	s.startReady(q)
	if q.up() {
		s.claimDue(q)
		return
	}
	s.claimProbe(q)
}

// leaseChanged resets, without a lease, all that another node may begin anew.
func (s *Scheduler) leaseChanged() {
	s.followIncarnation()
	if s.cfg.Lease.Leased() {
		for name := range s.queues {
			s.markDirty(name)
		}
		return
	}
	s.abort()
}

func (s *Scheduler) abort() {
	for _, q := range s.queues {
		for _, a := range q.running {
			a.abortUnlessCommitted()
		}
		s.abortCallouts(q, errInterrupted)
		s.closeConns(q, q.takeIdle(time.Time{}))
	}
}

// followIncarnation drops what belongs to an incarnation that has ended: its
// claims were revoked with it. Attempts that have sent everything still wait
// for their reply, since a delivery counts whoever reports it.
func (s *Scheduler) followIncarnation() {
	now := s.cfg.Lease.Incarnation()
	if now == s.incarnation {
		return
	}
	s.abort()
	s.incarnation, s.unknown = now, nil
	for name, q := range s.queues {
		q.forget()
		s.markDirty(name)
	}
}

// rescan looks at the head of every queue again. Nothing overdue should be
// there that the cursor has passed: what is found was missed, and is counted.
func (s *Scheduler) rescan() {
	if !s.mayAct() {
		return
	}
	for name, q := range s.queues {
		if !q.owned || q.proposed {
			continue
		}
		for l := range fsm.Lanes {
			s.rescanLane(q, l)
		}
		s.markDirty(name)
	}
}

func (s *Scheduler) rescanLane(q *queue, number fsm.Lane) {
	rows, err := s.cfg.State.Waiting(q.name, number, nil, 1)
	if err != nil {
		s.log.Error("rescan", "destination", q.name, "error", err)
		return
	}
	l := &q.lanes[number]
	if l.suspect != nil {
		s.metrics.missed.Inc()
		s.log.Warn("a due message was missed until the rescan", "destination", q.name, "id", l.suspect.ID)
	}
	l.suspect = nil
	if len(rows) > 0 && q.up() && l.passed(rows[0].Key) {
		// Rows are readable a moment before the feed tells of them: the next
		// rescan knows better.
		l.suspect = &rows[0]
	}
	l.rewind()
}

// stop ends the work in order: claims without an attempt go back, attempts get
// the grace, then what hasn't sent its last byte is reset, then what has is in
// doubt, and at last outcomes are given up that don't get into the log.
func (s *Scheduler) stop(lease <-chan struct{}, endAttempts, endOutcomes context.CancelFunc) {
	s.stopping = true
	close(s.deaf)
	for _, q := range s.queues {
		s.abortCallouts(q, errCalloutStopped)
	}
	steps := []func(){s.abort, endAttempts, endOutcomes}
	next := time.NewTimer(s.cfg.Grace)
	defer next.Stop()
	for {
		for _, q := range s.queues {
			s.releaseReady(q, every)
			s.closeConns(q, q.takeIdle(time.Time{}))
		}
		if s.active == 0 {
			return
		}
		select {
		case rest := <-s.done:
			s.finish(rest)
		case <-s.cfg.State.Changed():
			s.absorb(s.cfg.State.TakeChanges())
		case <-lease:
			lease = s.cfg.Lease.LeaseChanged()
			s.leaseChanged()
		case <-next.C:
			steps[0]()
			if steps = steps[1:]; len(steps) > 0 {
				next.Reset(s.cfg.Timing.Commit)
			}
		}
	}
}
