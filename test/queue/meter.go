package main

import (
	"context"
	"fmt"
	"time"

	"holdfast/test/harness"
)

// reading is what a node has used and done so far.
type reading struct {
	at       time.Time
	resident int64         // bytes
	cpu      time.Duration // of the process
	events   float64       // folded since the process began, whatever they came to
	probes   float64
	busy     float64 // percent of a processor before the reading, where it was watched
}

func read(ctx context.Context, n *harness.Node) (r reading, err error) {
	memory, err := n.Memory()
	if err != nil {
		return r, err
	}
	r.at, r.resident = time.Now(), memory.Resident
	if r.cpu, err = n.CPU(); err != nil {
		return r, err
	}
	for name, into := range map[string]*float64{
		`holdfast_events_applied_total{result="ok"}`:      &r.events,
		`holdfast_events_applied_total{result="stale"}`:   &r.events,
		`holdfast_events_applied_total{result="refused"}`: &r.events,
		`holdfast_probes_total{result="failed"}`:          &r.probes,
		`holdfast_probes_total{result="recovered"}`:       &r.probes,
	} {
		value, err := n.Metric(ctx, name)
		if err != nil {
			return r, err
		}
		*into += value
	}
	return r, nil
}

// readAll reads every node.
func (w *world) readAll(ctx context.Context) (map[string]reading, error) {
	all := map[string]reading{}
	for _, n := range w.cluster.Nodes {
		r, err := read(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		all[n.Name] = r
	}
	return all, nil
}

// watch reads all nodes, lets a time go by, and reads them again.
func (w *world) watch(ctx context.Context, long time.Duration) (before, after map[string]reading, err error) {
	if before, err = w.readAll(ctx); err != nil {
		return nil, nil, err
	}
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	after, err = w.readAll(ctx)
	return before, after, err
}

// busy is the share of one processor that was used between two readings, in percent.
func busy(before, after reading) float64 {
	return 100 * (after.cpu - before.cpu).Seconds() / after.at.Sub(before.at).Seconds()
}
