package main

import (
	"context"
	"fmt"
	"io"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// What is promised of a queue whose destination is down.
const (
	ownerMB      = 100 // resident above idle, of the node that owns the destination
	otherMB      = 10  // of the others
	dayEvents    = 1000
	restartLimit = 10 * time.Second

	eligibleAfter = 30 * time.Second
)

// millionRun has many messages wait for one destination that is down.
func millionRun(ctx context.Context, o options, out io.Writer) error {
	return inWorld(ctx, o, "million", out, func(w *world) error {
		watch := o.watch
		if watch == 0 {
			watch = 2 * time.Minute
			if o.short {
				watch = 10 * time.Second
			}
		}
		if err := w.configure(ctx); err != nil {
			return err
		}
		idle, err := w.idle(ctx, watch/2)
		if err != nil {
			return err
		}
		begin := time.Now().Add(-time.Minute)
		if err := w.prepare(ctx, o.messages, func(n int) (*pb.Event, []byte) { return acceptance(n, begin, domain) }); err != nil {
			return err
		}
		for _, n := range w.cluster.Nodes {
			if err := w.pending(ctx, n, func(p int) bool { return p == o.messages }); err != nil {
				return err
			}
		}
		if err := w.awaitDown(ctx); err != nil {
			return err
		}
		if err := w.restarts(ctx, o.messages); err != nil {
			return err
		}
		if err := w.atRest(ctx, idle, watch); err != nil {
			return err
		}
		return w.comesBack(ctx, w.drains)
	})
}

// idle restarts the cluster without a queue and reads what it needs then.
func (w *world) idle(ctx context.Context, long time.Duration) (map[string]reading, error) {
	if err := w.stop(ctx); err != nil {
		return nil, err
	}
	if _, err := w.start(ctx, time.Minute); err != nil {
		return nil, err
	}
	before, after, err := w.watch(ctx, long)
	if err != nil {
		return nil, err
	}
	for _, n := range w.cluster.Nodes {
		r := after[n.Name]
		r.busy = busy(before[n.Name], r)
		after[n.Name] = r
		w.Say("idle, no mail: node %s has %d MB resident, uses %.1f %% of a processor", n.Name, r.resident>>20, r.busy)
	}
	return after, nil
}

// restarts ends all nodes at the same time, as an operator does and by kill -9.
func (w *world) restarts(ctx context.Context, queued int) error {
	for _, way := range []struct {
		name string
		end  func() error
	}{
		{"kill -9", w.kill},
		{"SIGTERM", func() error { return w.stop(ctx) }},
	} {
		if err := way.end(); err != nil {
			return err
		}
		served, err := w.start(ctx, 10*time.Minute)
		if err != nil {
			return err
		}
		first, last := served[0], served[len(served)-1]
		w.Say("%d queued, all nodes ended by %s: mail is taken again after %.1f s, by the last node after %.1f s (promised: %.0f s)",
			queued, way.name, first.Seconds(), last.Seconds(), restartLimit.Seconds())
		if last > restartLimit {
			w.Violation("the restart after %s took %.1f s", way.name, last.Seconds())
		}
	}
	return nil
}

// atRest reads what the queue costs while nothing happens but probes.
func (w *world) atRest(ctx context.Context, idle map[string]reading, long time.Duration) error {
	// Nodes that came back are given destinations of their own after 30 s.
	if err := pause(ctx, eligibleAfter+long/10); err != nil {
		return err
	}
	before, after, err := w.watch(ctx, long)
	if err != nil {
		return err
	}
	h, err := w.health(ctx)
	if err != nil {
		return err
	}
	probes, events := 0.0, 0.0
	for _, n := range w.cluster.Nodes {
		name, limit := n.Name, int64(otherMB)
		probed := after[name].probes - before[name].probes
		probes += probed
		events = max(events, after[name].events-before[name].events)
		role := "other"
		// Probes rotate, so each node that has made one was the owner.
		if name == h.Owner || after[name].probes > 0 {
			role, limit = "owner", ownerMB
		}
		above := (after[name].resident - idle[name].resident) >> 20
		w.Say("at rest: node %s (%s) has %d MB resident, %d MB above idle (promised: %d), uses %.1f %% of a processor (idle %.1f %%)", name, role,
			after[name].resident>>20, above, limit, busy(before[name], after[name]), idle[name].busy)
		if above > limit {
			w.Violation("node %s (%s) has %d MB above idle", name, role, above)
		}
	}
	// What isn't of a probe (its claim, its outcome, the destination's) would be
	// of the messages that wait. A probe may be under way at either end.
	const perProbe, probesADay = 3, 24 * 12
	w.Say("in %s: %.0f probes, %.0f events in the log; a probe each 5 minutes makes %d a day (promised: under %d; TestOutageOfADay counts them)",
		long, probes, events, perProbe*probesADay, dayEvents)
	if others := events - perProbe*probes; others > perProbe {
		w.Violation("%.0f events in %s aren't of the %.0f probes", others, long, probes)
	}
	return nil
}

// awaitDown waits until the cluster says that the destination is down.
func (w *world) awaitDown(ctx context.Context) error {
	return eventually(ctx, time.Minute, "the destination to be down", func(ctx context.Context) error {
		h, err := w.health(ctx)
		if err == nil && h.State != "down" {
			err = fmt.Errorf("it is %s", h.State)
		}
		return err
	})
}
