package cluster

import (
	"sync/atomic"
	"testing"
)

// One full disk of three stops nobody else's mail; two stop everybody's, and
// the leases go on, so that delivery does.
func TestDisksLow(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	low := map[string]*atomic.Bool{"a": {}, "b": {}, "c": {}}
	w.adjust = func(cfg *Config) { cfg.DiskLow = low[cfg.Node].Load }
	w.startAll()
	w.awaitLeased(w.names...)
	all := func(want bool) func() bool {
		return func() bool {
			for _, n := range w.nodes {
				if n.cluster.DisksLow() != want || !n.cluster.Leased() {
					return false
				}
			}
			return true
		}
	}
	low["a"].Store(true)
	leader := w.leader(w.names...)
	eventually(t, "the leader knows of one", func() bool {
		l := leader.cluster.leadership.Load()
		if l == nil {
			return false
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		n := 0
		for _, w := range l.watched {
			if w.diskLow {
				n++
			}
		}
		return n == 1
	})
	eventually(t, "one is no reason", all(false))
	low["b"].Store(true)
	eventually(t, "two of three", all(true))
	low["a"].Store(false)
	eventually(t, "room again", all(false))
}
