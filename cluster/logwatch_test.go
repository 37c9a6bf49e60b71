package cluster

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// failingStore fails or hangs in StoreLogs.
type failingStore struct {
	raft.LogStore
	err  error
	hang chan struct{}
}

func (f *failingStore) StoreLogs(logs []*raft.Log) error {
	if f.hang != nil {
		<-f.hang
	}
	if f.err != nil {
		return f.err
	}
	return f.LogStore.StoreLogs(logs)
}

func watchedStore(t *testing.T, store raft.LogStore, limit time.Duration) (*logWatch, chan error) {
	fatal := make(chan error, 4)
	w, err := newLogWatch(store, 0, limit, 1<<20, newMetrics(prometheus.NewRegistry()), func(err error) { fatal <- err })
	must(t, err)
	return w, fatal
}

func TestLogWatchFails(t *testing.T) {
	broken := errors.New("input/output error")
	w, fatal := watchedStore(t, &failingStore{LogStore: raft.NewInmemStore(), err: broken}, time.Minute)
	if err := w.StoreLog(&raft.Log{Index: 1}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := <-fatal; !errors.Is(err, broken) {
		t.Errorf("fatal with %v", err)
	}

	w, fatal = watchedStore(t, raft.NewInmemStore(), time.Minute)
	if err := w.StoreLog(&raft.Log{Index: 1, Data: make([]byte, maxStored+1)}); err == nil {
		t.Error("an entry that is too large was stored")
	}
	if err := <-fatal; !strings.Contains(err.Error(), "more than") {
		t.Errorf("fatal with %v", err)
	}
}

func TestLogWatchHangs(t *testing.T) {
	store := &failingStore{LogStore: raft.NewInmemStore(), hang: make(chan struct{})}
	w, fatal := watchedStore(t, store, 20*time.Millisecond)
	stored := make(chan error, 1)
	go func() { stored <- w.StoreLog(&raft.Log{Index: 1}) }()
	if err := <-fatal; !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("fatal with %v", err)
	}
	close(store.hang)
	must(t, <-stored)
}

func TestTrailing(t *testing.T) {
	w, _ := watchedStore(t, raft.NewInmemStore(), time.Minute)
	const size = 1 << 20
	for i := uint64(1); i <= 100; i++ {
		must(t, w.StoreLog(&raft.Log{Index: i, Data: make([]byte, size)}))
	}
	// What comes in before raft's next snapshot is no reason to truncate either.
	if got := w.trailing(100, 1000*size); got < 1_000_000 {
		t.Errorf("with a large budget %d entries stay, want any number", got)
	}
	got := w.trailing(100, 20*size)
	if got < 20 || got > 20+markEvery/size {
		t.Errorf("%d entries of 1 MiB stay for a budget of 20 MiB", got)
	}
	// A tail that was cut off and written again, shorter.
	must(t, w.DeleteRange(50, 100))
	must(t, w.StoreLog(&raft.Log{Index: 50, Data: make([]byte, size)}))
	if got := w.trailing(50, 0); got > 50 {
		t.Errorf("%d entries of 50 stay for no budget", got)
	}
	if !w.snapshotDue() {
		t.Error("no snapshot is due after 101 MiB")
	}
	written := w.total()
	must(t, w.StoreLog(&raft.Log{Index: 101, Data: make([]byte, w.every)}))
	w.snapshotTaken(written)
	if !w.snapshotDue() {
		t.Error("what was written while a snapshot was taken makes none due")
	}
	w.snapshotTaken(w.total())
	if w.snapshotDue() {
		t.Error("a snapshot is due right after one")
	}
}
