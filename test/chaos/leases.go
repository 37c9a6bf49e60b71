package main

import (
	"context"

	"holdfast/test/harness"
)

// survivor is a node that isn't separated, as it was before the fault.
type survivor struct {
	node  *harness.Node
	slots int     // of the destinations that it owned
	lost  float64 // leases that ran out
	pid   int     // of its process, which counts them
}

// endings is how often all attempts of a survivor may have ended unseen meanwhile:
// with each lease that ran out, and with its process, where that is another one by
// now. The new one counts its leases from 0.
func (s survivor) endings(pid int, lost float64) int {
	if pid != s.pid {
		return 1 + int(lost)
	}
	return int(lost - s.lost)
}

const leasesLost = "holdfast_leases_lost_total"

// lookAround notes what the survivors have before the fault.
func (f *fault) lookAround(ctx context.Context) error {
	f.beside = nil
	for _, n := range f.survivors(f.node) {
		o, err := ownedBy(ctx, n)
		if err != nil {
			return err
		}
		lost, err := n.Metric(ctx, leasesLost)
		if err != nil {
			return err
		}
		f.beside = append(f.beside, survivor{node: n, slots: o.slots, lost: lost, pid: n.PID()})
	}
	return nil
}

// maxDuplicates is how many attempts may have ended unseen: one in each slot of
// the separated node, and in each of a survivor whose lease ran out before there
// was a new leader, as it ends its own attempts then, or that was started anew.
func (f *fault) maxDuplicates(ctx context.Context) (int, error) {
	limit := f.slots * f.times
	for _, s := range f.beside {
		lost, err := s.node.Metric(ctx, leasesLost)
		if err != nil {
			return 0, err
		}
		if times := s.endings(s.node.PID(), lost); times > 0 {
			limit += s.slots * times
			f.Say("node %s lost its lease or its process (times: %d), so its %d slots count too", s.node.Name, times, s.slots)
		}
	}
	return limit, nil
}
