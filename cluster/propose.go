package cluster

import (
	"context"
	"fmt"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// Lanes: a control event never waits behind bodies.
const (
	laneControl = iota
	laneBodies
)

// bodyFrom is the payload size from which an event counts as a body.
const bodyFrom = 4 << 10

// Propose puts an event into the log and returns what applying it came to, and
// the index at which; wait for that index before reading the effect from the
// state here. The event is the package's from then on; a zero time is stamped.
//
// Errors wrap fsm.ErrVersion, ErrTooLarge or ErrInvalid, ErrNoQuorum (the event will never take effect) or
// ErrUnknownOutcome (it may; unless ErrIncarnationEnded is wrapped too, it is
// pursued in the background until it does or surely doesn't).
func (c *Cluster) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	if event.Time == 0 {
		event.Time = c.Now().UnixNano()
	}
	if err := fsm.CheckVersion(event, c.cfg.State.Version()); err != nil {
		return nil, 0, err
	}
	size := int64(fsm.EncodedSize(event, payload))
	if size > fsm.MaxEvent {
		return nil, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, fsm.MaxEvent)
	}
	lane := laneOf(event, payload)
	room := c.lanes[lane].room
	if err := room.Acquire(ctx, size); err != nil {
		return nil, 0, fmt.Errorf("%w: too much is under way: %w", ErrNoQuorum, err)
	}
	s, err := c.awaitSession(ctx)
	if err != nil {
		room.Release(size)
		return nil, 0, err
	}
	start := time.Now()
	result, index, err := s.propose(ctx, lane, event, payload, func() { room.Release(size) })
	if err == nil {
		c.metrics.proposeTime.WithLabelValues(c.lanes[lane].name).Observe(time.Since(start).Seconds())
	}
	return result, index, err
}

func laneOf(event *pb.Event, payload []byte) int {
	switch event.Kind.(type) {
	case *pb.Event_MessageAccepted, *pb.Event_ContentAppended:
		return laneBodies
	}
	if len(payload) > bodyFrom {
		return laneBodies
	}
	return laneControl
}

func (c *Cluster) awaitSession(ctx context.Context) (*session, error) {
	for {
		changed := c.sessions.wait()
		if s := c.session.Load(); s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: this node is not up in the cluster: %w", ErrNoQuorum, ctx.Err())
		}
	}
}

// submit hands an entry to the leader.
func (c *Cluster) submit(entry []byte, lane int) outcome {
	leader := c.leader.Load()
	switch {
	case leader.self:
		return c.apply(entry)
	case leader.address != "":
		return c.forward.send(leader.at(), entry, lane == laneControl)
	}
	return outcome{kind: outcomeRefused, err: errNoLeader}
}
