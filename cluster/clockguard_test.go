package cluster

import (
	"testing"
	"time"
)

func TestCompareClocks(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		what    string
		offsets []time.Duration // of the nodes that have pinged; the first one asks
		active  int
		granted bool
	}{
		{"alone", []time.Duration{0}, 1, true},
		{"two that agree", []time.Duration{time.Second, 0}, 2, true},
		{"two that differ: nobody knows who is right", []time.Duration{0, day}, 2, false},
		{"the one that is off", []time.Duration{day, 0, 0}, 3, false},
		{"one of those that aren't", []time.Duration{0, 0, day}, 3, true},
		{"the leader itself is off", []time.Duration{0, day, day}, 3, false},
		{"a follower of a leader that is off", []time.Duration{day, 0, day + time.Second}, 3, true},
		{"no majority has pinged yet", []time.Duration{0}, 3, false},
		{"one of four is off", []time.Duration{0, 0, 0, -day}, 4, true},
		{"the one of four", []time.Duration{-day, 0, 0, 0}, 4, false},
	} {
		all := map[uint64]*watched{}
		for i, offset := range test.offsets {
			all[uint64(i)] = &watched{offset: offset, clocked: true}
		}
		err := compareClocks("n", all[0], all, test.active, 2*time.Second)
		if (err == nil) != test.granted {
			t.Errorf("%s: %v", test.what, err)
		}
	}
}
