package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// session is what one incarnation has proposed and doesn't know the outcome of.
type session struct {
	c           *Cluster
	incarnation uint64
	ctx         context.Context
	cancel      context.CancelFunc
	inactive    chan struct{} // closed when the state answers CODE_NOT_ACTIVE
	lanes       [2]lane

	mu    sync.Mutex // guards the fields below and those of the lanes
	ended bool
	gone  bool // inactive is closed
	next  uint64
	// open has the sequences given out whose outcome is unknown; lowest is
	// not above the lowest of them.
	open   map[uint64]*proposal
	lowest uint64
}

// lane is a queue with a limited number of entries under way.
type lane struct {
	number  int
	wake    chan struct{} // capacity 1
	waiting []*proposal
	flying  int
	resume  time.Time // after a refusal nothing is sent before it
}

// proposal is an event on its way into the log.
type proposal struct {
	event    *pb.Event
	payload  []byte
	size     int
	lane     int
	sequence uint64 // 0 until it was packed once
	flying   bool
	// maybe: an earlier entry with it may be in the log.
	maybe bool
	// pursued: its proposer was told that the outcome is unknown.
	pursued bool

	release func() // gives back its room
	done    chan struct{}
	result  *pb.EventResult
	index   uint64
	err     error
}

// refusalPause keeps a lane from trying a leader again at once that has just
// refused an entry.
const refusalPause = 50 * time.Millisecond

func (c *Cluster) newSession(ctx context.Context) (*session, error) {
	incarnation, err := newIncarnation()
	if err != nil {
		return nil, err
	}
	s := &session{
		c: c, incarnation: incarnation, inactive: make(chan struct{}),
		next: 1, lowest: 1, open: map[uint64]*proposal{},
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	for i := range s.lanes {
		ln := &s.lanes[i]
		ln.number, ln.wake = i, make(chan struct{}, 1)
		c.applies.Go(func() { s.pack(ln) })
	}
	return s, nil
}

// propose waits for the outcome, or gives up with ctx. It calls release once
// the event needs no memory any more.
func (s *session) propose(ctx context.Context, number int, event *pb.Event, payload []byte, release func()) (*pb.EventResult, uint64, error) {
	p := &proposal{
		event: event, payload: payload, lane: number,
		size: fsm.EncodedSize(event, payload), release: release, done: make(chan struct{}),
	}
	s.mu.Lock()
	ln := &s.lanes[number]
	if s.ended {
		s.resolve(p, nil, 0, s.endError(p))
	} else {
		ln.waiting = append(ln.waiting, p)
	}
	s.mu.Unlock()
	kick(ln.wake)
	select {
	case <-p.done:
	case <-ctx.Done():
		if err := s.abandon(p, ctx.Err()); err != nil {
			return nil, 0, err
		}
	}
	return p.result, p.index, p.err
}

// abandon withdraws p if it was never sent. It returns nil where the outcome
// has come meanwhile.
func (s *session) abandon(p *proposal, cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-p.done:
		return nil
	default:
	}
	if p.flying || p.maybe {
		p.pursued = true
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, cause)
	}
	ln := &s.lanes[p.lane]
	for i, waiting := range ln.waiting {
		if waiting == p {
			ln.waiting = append(ln.waiting[:i:i], ln.waiting[i+1:]...)
			break
		}
	}
	s.resolve(p, nil, 0, fmt.Errorf("%w: %w", ErrNoQuorum, cause))
	return nil
}

// resolve settles p for good. Guarded by mu.
func (s *session) resolve(p *proposal, result *pb.EventResult, index uint64, err error) {
	p.result, p.index, p.err = result, index, err
	if p.sequence != 0 {
		delete(s.open, p.sequence)
	}
	p.event, p.payload = nil, nil
	p.release()
	close(p.done)
}

// pack sends what waits, entry by entry.
func (s *session) pack(ln *lane) {
	for s.awaitWork(ln) && s.c.awaitLeader(s.ctx) {
		batch, entry := s.take(ln)
		if batch == nil {
			continue
		}
		s.c.applies.Go(func() { s.settle(ln, batch, s.c.submit(entry, ln.number)) })
	}
}

// awaitWork waits until something waits and may go.
func (s *session) awaitWork(ln *lane) bool {
	for {
		s.mu.Lock()
		ready := len(ln.waiting) > 0 && ln.flying < s.c.cfg.Limits.EntriesInFlight
		pause := time.Until(ln.resume)
		s.mu.Unlock()
		if ready {
			return sleep(s.ctx, pause)
		}
		select {
		case <-ln.wake:
		case <-s.ctx.Done():
			return false
		}
	}
}

// take packs what waits into an entry, up to its limit.
func (s *session) take(ln *lane) ([]*proposal, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const head = 64 // of the entry itself
	n, size := 0, head
	for n < len(ln.waiting) && (n == 0 || size+ln.waiting[n].size <= fsm.MaxEntry) {
		size += ln.waiting[n].size
		n++
	}
	if n == 0 || s.ended {
		return nil, nil
	}
	batch := append([]*proposal(nil), ln.waiting[:n]...)
	ln.waiting = append([]*proposal(nil), ln.waiting[n:]...)
	ln.flying++
	events, payloads := s.number(batch)
	entry, err := fsm.EncodeEntry(events, payloads)
	if err != nil {
		ln.flying--
		s.weedOut(ln, batch)
		return nil, nil
	}
	return batch, entry
}

// weedOut resolves the events that can't be encoded: a string isn't UTF-8. The
// others of their batch wait again. Guarded by mu.
func (s *session) weedOut(ln *lane, batch []*proposal) {
	var again []*proposal
	for _, p := range batch {
		p.flying = false
		if _, err := fsm.EncodeEntry([]*pb.Event{p.event}, [][]byte{p.payload}); err != nil {
			s.resolve(p, nil, 0, fmt.Errorf("%w: %w", ErrInvalid, err))
		} else {
			again = append(again, p)
		}
	}
	ln.waiting = append(again, ln.waiting...)
}

// number fills in the events' headers. Guarded by mu.
func (s *session) number(batch []*proposal) ([]*pb.Event, [][]byte) {
	for _, p := range batch {
		if p.sequence == 0 {
			p.sequence = s.next
			s.open[s.next] = p
			s.next++
		} else if p.maybe {
			s.c.metrics.repeated.Inc()
		}
		p.flying = true
	}
	for s.lowest < s.next {
		if _, open := s.open[s.lowest]; open {
			break
		}
		s.lowest++
	}
	events, payloads := make([]*pb.Event, len(batch)), make([][]byte, len(batch))
	for i, p := range batch {
		p.event.Incarnation, p.event.Sequence, p.event.LowestOpen = s.incarnation, p.sequence, s.lowest
		events[i], payloads[i] = p.event, p.payload
	}
	return events, payloads
}

// settle takes the outcome of an entry: its events are resolved or wait again.
func (s *session) settle(ln *lane, batch []*proposal, out outcome) {
	m, name := s.c.metrics, s.c.lanes[ln.number].name
	if out.kind == outcomeApplied && len(out.applied.Results) != len(batch) {
		out = outcome{err: fmt.Errorf("%d results for %d events", len(out.applied.Results), len(batch))}
	}
	m.entries.WithLabelValues(name, out.kind.String()).Inc()
	if out.kind != outcomeApplied {
		s.c.log.Debug("entry not applied", "lane", name, "events", len(batch), "outcome", out.kind.String(), "error", out.err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	ln.flying--
	var again []*proposal
	for i, p := range batch {
		p.flying = false
		p.maybe = p.maybe || out.kind == outcomeUnknown
		switch {
		case isDone(p): // the session ended meanwhile
		case out.kind == outcomeApplied && out.applied.Results[i].Code != pb.EventResult_CODE_NOT_ACTIVE:
			m.events.WithLabelValues(name).Inc()
			s.resolve(p, out.applied.Results[i], out.applied.Index, nil)
		case out.kind == outcomeApplied:
			s.announceGone()
			s.resolve(p, nil, 0, s.endError(p))
		case s.ended:
			s.resolve(p, nil, 0, s.endError(p))
		default:
			again = append(again, p)
		}
	}
	ln.waiting = append(again, ln.waiting...)
	if out.kind == outcomeRefused {
		ln.resume = time.Now().Add(refusalPause)
	}
	kick(ln.wake)
}

func isDone(p *proposal) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// announceGone tells that the state doesn't know the incarnation any more.
// Guarded by mu.
func (s *session) announceGone() {
	if !s.gone {
		s.gone = true
		s.c.lease.drop() // before a proposer hears of it
		close(s.inactive)
	}
}

// endError is what p comes to when its incarnation has ended. An earlier entry
// may have been applied before that, and then its result is forgotten.
func (s *session) endError(p *proposal) error {
	if p.flying || p.maybe || p.pursued {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ErrIncarnationEnded)
	}
	return fmt.Errorf("%w: %w", ErrNoQuorum, ErrIncarnationEnded)
}

// end drops the lease, for good as far as this incarnation goes, and resolves
// everything that is open: in this order, so that no proposer hears of the end
// while the lease lasts.
func (s *session) end() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.c.lease.drop()
	for i := range s.lanes {
		for _, p := range s.lanes[i].waiting {
			s.resolve(p, nil, 0, s.endError(p))
		}
		s.lanes[i].waiting = nil
	}
	for _, p := range s.open { // under way
		s.resolve(p, nil, 0, s.endError(p))
	}
}

func (k outcomeKind) String() string {
	switch k {
	case outcomeApplied:
		return "applied"
	case outcomeRefused:
		return "refused"
	}
	return "unknown"
}
