package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
	"holdfast/test/sink"
)

// destinationsRun configures many destinations, every other one down, and
// compares what they cost with a short and with a ten times longer queue.
func destinationsRun(ctx context.Context, o options, out io.Writer) error {
	return inWorld(ctx, o, "destinations", out, func(w *world) (err error) {
		server, err := sink.Start(sink.Config{Recording: sink.RecordCount})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Close()) }()
		watch := o.watch
		if watch == 0 {
			watch = time.Minute
			if o.short {
				watch = 10 * time.Second
			}
		}
		m := many{world: w, destinations: o.messages, up: server}
		if err := w.prepare(ctx, 2*o.messages, m.configuration); err != nil {
			return err
		}
		before, after, err := w.watch(ctx, watch/2)
		if err != nil {
			return err
		}
		none := m.cost(before, after)
		w.Say("%d destinations, no mail: %.1f %% of a processor for all nodes", o.messages, none.busy)
		short, err := m.queued(ctx, 2, watch)
		if err != nil {
			return err
		}
		long, err := m.queued(ctx, 20, watch)
		if err != nil {
			return err
		}
		// What the nodes use without mail isn't the queue's.
		perEvent := func(c cost) float64 { return max(0, c.busy-none.busy) * 10 / max(1, c.events/watch.Seconds()) }
		w.Say("ten times the queue: %.2f in place of %.2f ms of a processor for each event, all nodes together", perEvent(long), perEvent(short))
		if perEvent(long) > 2*perEvent(short)+0.5 {
			w.Violation("the cost of an event rose from %.2f to %.2f ms with the queue", perEvent(short), perEvent(long))
		}
		return nil
	})
}

// many are the destinations d0, d1 …; the odd ones are down.
type many struct {
	*world
	destinations int
	up           *sink.Server
	messages     int // so far
}

func nameOf(n int) string { return fmt.Sprintf("d%d", n) }

// configuration is the destinations, then their domains.
func (m *many) configuration(n int) (*pb.Event, []byte) {
	now := time.Now().UnixNano()
	if n >= m.destinations {
		name := nameOf(n - m.destinations)
		return &pb.Event{Time: now, Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{Domain: &pb.DomainConfig{
			Name: domainOf(name), Destination: name, Policy: "five-day",
		}}}}, nil
	}
	address := m.up.Addr()
	if n%2 == 1 {
		address = m.next
	}
	return &pb.Event{Time: now, Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: &pb.DestinationConfig{
		Name: nameOf(n), Slots: slots, Tls: "none", ProbeMax: int64(probeMax), Hosts: []*pb.DestinationConfig_Host{{Address: address, Weight: 1}},
	}}}}, nil
}

func domainOf(destination string) string { return destination + ".test" }

// cost of what all nodes did between two readings.
type cost struct {
	busy   float64 // percent of a processor
	events float64
}

func (m *many) cost(before, after map[string]reading) (c cost) {
	for name, r := range after {
		c.busy += busy(before[name], r)
		c.events = max(c.events, r.events-before[name].events)
	}
	return c
}

// queued adds messages for each destination that is down, and one for each that
// is up, waits until the first are due only by probes, and reads the cost.
func (m *many) queued(ctx context.Context, each int, long time.Duration) (c cost, err error) {
	down := m.destinations / 2
	begin, first := time.Now(), m.messages
	err = m.prepare(ctx, down*each+down, func(n int) (*pb.Event, []byte) {
		to := 2*(n%down) + 1
		if n >= down*each {
			to = 2 * (n - down*each)
		}
		return acceptance(first+n, begin, domainOf(nameOf(to)))
	})
	if err != nil {
		return c, err
	}
	m.messages += down*each + down
	delivered := m.up.Stats().Committed
	if err := m.settled(ctx, down); err != nil {
		return c, err
	}
	before, after, err := m.watch(ctx, long)
	if err != nil {
		return c, err
	}
	c = m.cost(before, after)
	m.Say("%d destinations, %d of them down with %d messages in all; those that are up have taken %d: %.1f %% of a processor for all nodes, %.1f events a second",
		m.destinations, down, m.messages-m.up.Stats().Committed, m.up.Stats().Committed-delivered, c.busy, c.events/long.Seconds())
	return c, nil
}

// settled waits until every other destination is known to be down, and what
// isn't for those has gone out.
func (m *many) settled(ctx context.Context, down int) error {
	return eventually(ctx, 15*time.Minute, "the destinations to be down", func(ctx context.Context) error {
		var status harness.Status
		if err := m.cluster.Nodes[0].JSON(ctx, &status, "status"); err != nil {
			return err
		}
		if n := len(status.DestinationsDown); n < down {
			return fmt.Errorf("%d of %d are", n, down)
		}
		return nil
	})
}
