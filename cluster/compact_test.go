package cluster

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// What is written while a snapshot is taken isn't in it: where that is enough for
// another one, another one is taken, though nothing more comes.
func TestWrittenDuringASnapshot(t *testing.T) {
	var armed atomic.Bool
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w := newWorld(t, "a")
	w.adjust = func(c *Config) { c.Limits.SnapshotBytes = 64 << 10 }
	n := w.nodes["a"]
	n.disk = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed.Load() && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			once.Do(func() { close(begun) })
			<-goOn
		}
		return nil
	}))
	w.startAll()
	w.awaitLeased("a")
	n.configure()
	armed.Store(true)
	body := make([]byte, 100<<10)
	n.accept(1, body)
	<-begun
	n.accept(1, body)
	last := n.state.AppliedIndex()
	close(goOn)
	eventually(t, "a snapshot of the rest", func() bool {
		index, err := strconv.ParseUint(n.cluster.raft.Load().Stats()["last_snapshot_index"], 10, 64)
		must(t, err)
		return index >= last
	})
}
