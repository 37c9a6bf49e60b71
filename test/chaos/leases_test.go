package main

import "testing"

// A process that was started anew has lost all that the one before it had under way,
// and counts its leases from 0.
func TestEndings(t *testing.T) {
	s := survivor{lost: 3, pid: 10}
	for _, c := range []struct {
		pid  int
		lost float64
		want int
	}{{10, 3, 0}, {10, 5, 2}, {11, 0, 1}, {11, 2, 3}} {
		if got := s.endings(c.pid, c.lost); got != c.want {
			t.Errorf("pid %d with %v leases lost: %d, want %d", c.pid, c.lost, got, c.want)
		}
	}
}
