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
		f.beside = append(f.beside, survivor{node: n, slots: o.slots, lost: lost})
	}
	return nil
}

// maxDuplicates is how many attempts may have ended unseen: one in each slot of
// the separated node, and in each of a survivor whose lease ran out before there
// was a new leader, as it ends its own attempts then.
func (f *fault) maxDuplicates(ctx context.Context) (int, error) {
	limit := f.slots * f.times
	for _, s := range f.beside {
		lost, err := s.node.Metric(ctx, leasesLost)
		if err != nil {
			return 0, err
		}
		if times := int(lost - s.lost); times > 0 {
			limit += s.slots * times
			f.Say("node %s lost its lease (times: %d), so its %d slots count too", s.node.Name, times, s.slots)
		}
	}
	return limit, nil
}
