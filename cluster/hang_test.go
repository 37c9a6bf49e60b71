package cluster

import (
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// hangingStore is a disk whose writes wait while it hangs.
type hangingStore struct {
	raft.LogStore
	mu sync.RWMutex // held for writing while the disk hangs
}

func (s *hangingStore) StoreLogs(logs []*raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.LogStore.StoreLogs(logs)
}

// A leader whose disk hangs goes long before the watchdog ends it: the others
// accept again, and what it had under way takes effect once.
func TestLeaderWhoseDiskHangs(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Timing.Hang, c.Timing.Store = time.Second, time.Minute }
	disks := map[string]*hangingStore{}
	w.opened = func(n *testNode, c *Cluster) {
		disks[n.name] = &hangingStore{LogStore: c.logs.LogStore}
		c.logs.LogStore = disks[n.name]
	}
	w.startAll()
	w.awaitLeased(w.names...)
	w.nodes["a"].configure()
	old := w.leader(w.names...)
	rest := w.others(old.name)
	tr := startTraffic(t, w.nodes["a"], w.nodes["b"], w.nodes["c"])
	tr.awaitMore(20)
	disks[old.name].mu.Lock()
	began := time.Now()
	w.leader(rest...)
	w.awaitLeased(rest...)
	tr.awaitMore(20)
	t.Logf("accepting again %s after the disk began to hang", time.Since(began).Round(time.Millisecond))
	eventually(t, "the node whose disk hangs has no lease", func() bool { return !old.cluster.Leased() })
	disks[old.name].mu.Unlock()
	w.awaitLeased(w.names...)
	tr.awaitMore(20)
	tr.finish()
	tr.check(w, w.names...)
	select {
	case err := <-old.fatal:
		t.Errorf("the watchdog ended the node: %v", err)
	default:
	}
}
