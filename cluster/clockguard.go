package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

var (
	errClocksUnknown = errors.New("the clocks of a majority aren't known yet")
	errClocksDiffer  = errors.New("the clocks of the nodes differ, and none of them is known to be right: set them right")
)

// clockError refuses a node whose clock is apart from the others'. It would
// return mail that isn't old, and stamp mail so that others return it, and
// neither can be taken back. While it isn't known which clock is right, it is no
// node's fault: to declare one down would leave the other, right or wrong, as
// the only one. Guarded by mu.
func (l *leadership) clockError(node string, w *watched) error {
	agreed, err := l.agreedClock()
	if apart := (w.clock - agreed).Abs(); err == nil && apart > l.c.cfg.Timing.Clock {
		return fmt.Errorf("the clock of node %s is %s apart from the others: set it right", node, apart.Round(time.Millisecond))
	}
	return nil
}

// agreedClock is the clock of the cluster, as the time of day at the zero of
// this leader's monotonic clock. Guarded by mu.
func (l *leadership) agreedClock() (time.Duration, error) {
	return agreedClock(l.watched, l.active(), l.c.cfg.Timing.Clock)
}

func (l *leadership) active() int {
	n := 0
	for _, record := range l.c.cfg.State.Nodes() {
		if record.Active {
			n++
		}
	}
	return n
}

// agreedClock is the median of all clocks that are known. The leader's own is
// no better than any. With an even number both of the middle ones count: where
// they differ, those that their own nodes know to be wrong are left out.
func agreedClock(all map[uint64]*watched, active int, limit time.Duration) (time.Duration, error) {
	var clocks, trusted []time.Duration
	for _, w := range all {
		if !w.clocked || w.down {
			continue
		}
		clocks = append(clocks, w.clock)
		if !w.clockWrong {
			trusted = append(trusted, w.clock)
		}
	}
	if len(clocks) < active/2+1 {
		return 0, errClocksUnknown
	}
	for _, candidates := range [][]time.Duration{clocks, trusted} {
		if len(candidates) == 0 {
			continue
		}
		slices.Sort(candidates)
		low, high := candidates[(len(candidates)-1)/2], candidates[len(candidates)/2]
		if high-low <= limit {
			return low + (high-low)/2, nil
		}
	}
	return 0, errClocksDiffer
}

// clusterTime is the time of day that the clocks agree on when a ping came, in
// nanoseconds since 1970, 0 where they don't. While no node is up, nobody
// contradicts the sender's own clock.
func (l *leadership) clusterTime(sender int64, received time.Duration) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active() == 0 {
		return sender
	}
	agreed, err := l.agreedClock()
	if err != nil {
		return 0
	}
	return int64(agreed + received)
}
