package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

var errClocks = errors.New("the clocks of a majority aren't known yet")

// clockError refuses a node whose clock is apart from the others'. It would
// return mail that isn't old, and stamp mail so that others return it, and
// neither can be taken back. The leader's own clock is no better than any: what
// counts is the median of all that ping, and with an even number of them both
// of the middle ones, so that of two nodes that differ neither acts. Guarded by mu.
func (l *leadership) clockError(node string, w *watched) error {
	active := 0
	for _, record := range l.c.cfg.State.Nodes() {
		if record.Active {
			active++
		}
	}
	return compareClocks(node, w, l.watched, active, l.c.cfg.Timing.Clock)
}

func compareClocks(node string, w *watched, all map[uint64]*watched, active int, limit time.Duration) error {
	var offsets []time.Duration
	for _, other := range all {
		if other.clocked && !other.down {
			offsets = append(offsets, other.offset)
		}
	}
	if len(offsets) < active/2+1 {
		return errClocks
	}
	slices.Sort(offsets)
	low, high := offsets[(len(offsets)-1)/2], offsets[len(offsets)/2]
	apart := max((w.offset - low).Abs(), (w.offset - high).Abs())
	if apart > limit {
		return fmt.Errorf("the clock of node %s is %s apart from the others: set it right", node, apart.Round(time.Millisecond))
	}
	return nil
}
