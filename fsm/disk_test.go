package fsm

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	pb "holdfast/proto/holdfast/v1"
)

// A disk that fails while the state is flushed ends the node: Fatal is called
// once, nothing is applied after it, and raft is never told that the snapshot is
// on disk, also where a second try would go through.
func TestFailingDisk(t *testing.T) {
	writes := func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }
	syncs := func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	}
	for name, c := range map[string]struct {
		fails func(errorfs.Op) bool
		times int64
	}{
		"every write":      {writes, 1 << 62},
		"every sync":       {syncs, 1 << 62},
		"one sync":         {syncs, 1},
		"one file":         {func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate }, 1},
		"one write":        {func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite }, 1},
		"the third sync":   {nth(3, syncs), 1},
		"the fourth write": {nth(4, writes), 1},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMem()
			w, faulty := newFaultyWorld(t, disk)
			w.up("a", 1, 0)
			w.configure(1)
			if err := persist(w.state, w.index, w.term); err != nil {
				t.Fatal(err)
			}
			good := w.index
			w.accept(1, "one@example.test")
			last := w.index

			faulty.fail(c.fails, c.times)
			if err := persist(w.state, w.index, w.term); err == nil {
				t.Fatal("persisted on a failing disk")
			}
			if err := <-faulty.fatal; err == nil {
				t.Error("fatal without a reason")
			}
			event := w.header(1, destinationSet("late"))
			response := w.state.Apply(w.entry([]*pb.Event{event}, [][]byte{nil}))
			if err, ok := response.(error); !ok || !errors.Is(err, ErrClosed) {
				t.Errorf("apply on a failed state: %v", response)
			}
			if _, ok := w.state.Destination("late"); ok || w.state.AppliedIndex() != last {
				t.Errorf("index %d after the failure, want %d", w.state.AppliedIndex(), last)
			}
			if err := persist(w.state, last, w.term); err == nil {
				t.Error("persisted after the failure")
			}
			if err := w.state.WaitApplied(t.Context(), last+1); !errors.Is(err, ErrClosed) {
				t.Errorf("wait on a failed state: %v", err)
			}
			// Not a check: a disk that fails may fail at the close as well. It must end.
			t.Logf("close: %v", w.state.Close())
			if len(faulty.fatal) > 0 {
				t.Errorf("Fatal was called again: %v", <-faulty.fatal)
			}

			again := openState(t, crashDir, disk)
			if index := again.AppliedIndex(); index != good && index != last {
				t.Errorf("after the disk is mended the state is at %d, want %d or %d", index, good, last)
			}
			checkState(t, again)
		})
	}
}

// faultyDisk fails what it is told to with EIO.
type faultyDisk struct {
	fails atomic.Pointer[func(errorfs.Op) bool]
	left  atomic.Int64
	fatal chan error
}

func newFaultyWorld(t *testing.T, disk vfs.FS) (*world, *faultyDisk) {
	f := &faultyDisk{fatal: make(chan error, 10)}
	cfg := stateConfig(t, crashDir, errorfs.Wrap(disk, f))
	cfg.Fatal = func(err error) { f.fatal <- err }
	state, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return worldOf(t, state), f
}

func (f *faultyDisk) String() string { return "faulty disk" }

func (f *faultyDisk) fail(which func(errorfs.Op) bool, times int64) {
	f.left.Store(times)
	f.fails.Store(&which)
}

func (f *faultyDisk) MaybeError(op errorfs.Op) error {
	if which := f.fails.Load(); which != nil && (*which)(op) && f.left.Add(-1) >= 0 {
		return &vfsError{op.Path}
	}
	return nil
}

type vfsError struct{ path string }

func (e *vfsError) Error() string { return e.path + ": " + syscall.EIO.Error() }
func (e *vfsError) Unwrap() error { return syscall.EIO }

// nth lets the first n-1 operations of a kind pass.
func nth(n int64, which func(errorfs.Op) bool) func(errorfs.Op) bool {
	var seen atomic.Int64
	return func(op errorfs.Op) bool { return which(op) && seen.Add(1) >= n }
}

// A received checkpoint that can't be written is refused, and the old state goes on.
func TestInstallOnAFailingDisk(t *testing.T) {
	leader := newWorld(t)
	leader.configureCluster()
	leader.up("a", 1, 0)
	leader.configure(1)
	disk := vfs.NewMem()
	follower, faulty := newFaultyWorld(t, disk)
	follower.up("a", 1, 0)
	faulty.fail(func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSync }, 1)
	if err := installFrom(leader.state, follower.state); !errors.Is(err, syscall.EIO) {
		t.Fatalf("install: %v", err)
	}
	if len(faulty.fatal) > 0 {
		t.Fatalf("a failed transfer ended the node: %v", <-faulty.fatal)
	}
	follower.configure(1)
	if err := installFrom(leader.state, follower.state); err != nil {
		t.Fatalf("second try: %v", err)
	}
	checkSameDigests(t, "installed", digestsOf(t, follower.state), digestsOf(t, leader.state))
	if err := follower.state.Close(); err != nil {
		t.Error(err)
	}
}
