package main

import (
	"context"
	"time"
)

// reading is what a node's process has used and suffered since its start.
type reading struct {
	cpu    time.Duration
	leases float64 // that ran out
}

// meter reads the nodes, and tells what is new since it was called last. What a
// process did that has ended meanwhile is not in it.
func (w *world) meter(ctx context.Context) (news reading, err error) {
	now := map[int]reading{}
	for _, n := range w.cluster.Nodes {
		var r reading
		if r.cpu, err = n.CPU(); err != nil {
			return news, err
		}
		if r.leases, err = n.Metric(ctx, "holdfast_leases_lost_total"); err != nil {
			return news, err
		}
		pid := n.PID()
		news.cpu += r.cpu - w.readings[pid].cpu
		if lost := r.leases - w.readings[pid].leases; lost > 0 {
			w.Say("node %s lost its lease (times: %.0f)", n.Name, lost)
			news.leases += lost
		}
		now[pid] = r
	}
	w.readings = now
	return news, nil
}

// mayRepeat is how many messages may come twice: those of the chapter, and those
// of nodes that end their own attempts when their leases run out.
func (c chapter) mayRepeat(news reading) int {
	if news.leases > 0 {
		return upDestinations * slots
	}
	return c.duplicates
}

// sayFigures shows a chapter's as soon as they are known.
func (w *world) sayFigures(f figure) {
	w.Say("%s: %d accepted in %s, %.0f a second, p99 %s, longest gap %s, processor time of the nodes for each %s",
		f.name, f.accepted, ms(f.took), f.rate, ms(f.p99), ms(f.gap), f.cpu)
}
