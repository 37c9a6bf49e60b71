package cluster

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// maxStored is the largest entry that goes into the log, in bytes. Ours are at
// most fsm.MaxEntry; raft-wal can't read back more than 64 MiB and checks that
// only when it reads.
const maxStored = 16 << 20

// logWatch is the log store that raft gets. It ends the node when a write
// fails, hangs, or is too large, and keeps account of the bytes.
//
// A leader whose disk hangs still sends heartbeats and so would stay leader
// for good: see transport, which asks hanging. A time-out returned from StoreLogs
// would let raft try again under a write that may still happen.
type logWatch struct {
	raft.LogStore
	limit   time.Duration
	fatal   func(error)
	metrics *metrics
	due     chan struct{} // capacity 1: a snapshot is due
	every   int64         // bytes between snapshots

	writing atomic.Pointer[time.Time] // when the write under way began, nil for none

	mu       sync.Mutex // guards the fields below
	written  int64
	snapshot int64 // written, when the last snapshot began
	marks    []logMark
}

// logMark: up to index, bytes had been written.
type logMark struct {
	index uint64
	bytes int64
}

// markEvery is the distance of the marks: how exactly the trailing log is kept.
const markEvery = 4 << 20

// newLogWatch takes account of size bytes that the log has from before.
func newLogWatch(store raft.LogStore, size int64, limit time.Duration, every int64, m *metrics, fatal func(error)) (*logWatch, error) {
	first, err := store.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := store.LastIndex()
	if err != nil {
		return nil, err
	}
	w := &logWatch{LogStore: store, limit: limit, every: every, fatal: fatal, metrics: m, due: make(chan struct{}, 1)}
	if last > 0 {
		w.marks = []logMark{{index: first - 1}, {index: last, bytes: size}}
		w.written, w.snapshot = size, size
	}
	return w, nil
}

// IsMonotonic keeps raft from leaving a gap in the log after it received a
// state: it drops the log then, whichever store it is in.
func (w *logWatch) IsMonotonic() bool { return true }

func (w *logWatch) StoreLog(log *raft.Log) error { return w.StoreLogs([]*raft.Log{log}) }

func (w *logWatch) StoreLogs(logs []*raft.Log) error {
	size := int64(0)
	for _, log := range logs {
		if len(log.Data) > maxStored {
			return w.fail(fmt.Errorf("raft log entry %d has %d bytes, more than %d", log.Index, len(log.Data), maxStored))
		}
		size += int64(len(log.Data))
	}
	start := time.Now()
	w.writing.Store(&start)
	defer w.writing.Store(nil)
	watchdog := time.AfterFunc(w.limit, func() {
		w.fatal(fmt.Errorf("a raft log write has not ended for %s", w.limit))
	})
	err := w.LogStore.StoreLogs(logs)
	watchdog.Stop()
	if errors.Is(err, wal.ErrSealed) {
		// raft-wal tells only its logger why it couldn't begin another segment.
		return w.fail(fmt.Errorf("write the raft log: its last segment is full and the next could not be begun, the line \"rotate error\" in the log says why: %w", err))
	}
	if err != nil {
		return w.fail(fmt.Errorf("write the raft log: %w", err))
	}
	w.metrics.storeSeconds.Observe(time.Since(start).Seconds())
	w.metrics.storedBytes.Add(float64(size))
	w.account(logs[len(logs)-1].Index, size)
	return nil
}

// hanging is for how long a write has been under way, 0 where none is.
func (w *logWatch) hanging() time.Duration {
	if began := w.writing.Load(); began != nil {
		return time.Since(*began)
	}
	return 0
}

func (w *logWatch) DeleteRange(first, last uint64) error {
	if err := w.LogStore.DeleteRange(first, last); err != nil {
		return w.fail(fmt.Errorf("truncate the raft log: %w", err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// Marks above a tail that was cut off would name other entries later.
	for n := len(w.marks); n > 0 && w.marks[n-1].index >= first && w.marks[n-1].index <= last; n-- {
		w.marks = w.marks[:n-1]
	}
	for len(w.marks) > 1 && first <= w.marks[0].index+1 && w.marks[1].index <= last {
		w.marks = w.marks[1:]
	}
	return nil
}

func (w *logWatch) fail(err error) error {
	w.fatal(err)
	return err
}

func (w *logWatch) account(last uint64, size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written += size
	if n := len(w.marks); n == 0 || w.written-w.marks[n-1].bytes >= markEvery {
		w.marks = append(w.marks, logMark{index: last, bytes: w.written})
	}
	if w.written-w.snapshot >= w.every {
		kick(w.due)
	}
}

// size is about how many bytes the log has.
func (w *logWatch) size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.marks) == 0 {
		return 0
	}
	return w.written - w.marks[0].bytes
}

// trailing is how many entries up to last hold about budget bytes: any number
// while the log has fewer. Raft counts from where the log ends at its next
// snapshot, so the number of those that there are now would truncate as many as
// were written since.
func (w *logWatch) trailing(last uint64, budget int64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	keep := -1
	for i, mark := range w.marks {
		if w.written-mark.bytes < budget {
			break
		}
		keep = i
	}
	if keep < 0 || w.marks[keep].index > last {
		return math.MaxUint64
	}
	return last - w.marks[keep].index
}

// snapshotDue reports whether enough was written since the last snapshot.
func (w *logWatch) snapshotDue() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written-w.snapshot >= w.every
}

// total is how many bytes were written so far.
func (w *logWatch) total() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

// snapshotTaken: there is a snapshot that began when written bytes were.
func (w *logWatch) snapshotTaken(written int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.snapshot = written
}
