package cluster

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// crashingMeta takes the first state, which names the first segment, and no other.
type crashingMeta struct {
	*metadb.BoltMetaDB
	commits int
}

func (m *crashingMeta) CommitState(state types.PersistentState) error {
	m.commits++
	if m.commits > 1 {
		return errors.New("crashed")
	}
	return m.BoltMetaDB.CommitState(state)
}

func entry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Data: bytes.Repeat([]byte{byte(index)}, 1000)}
}

// A crash between the last append to a full segment and the meta database's
// next state must not leave a log that takes no entry any more.
func TestRotationInterrupted(t *testing.T) {
	dir := t.TempDir()
	const segmentSize = 16 << 10
	w, err := wal.Open(dir, wal.WithSegmentSize(segmentSize), wal.WithMetaStore(&crashingMeta{BoltMetaDB: &metadb.BoltMetaDB{}}))
	must(t, err)
	last := uint64(0)
	for err == nil {
		if err = w.StoreLog(entry(last + 1)); err == nil {
			last++
		}
	}
	if !errors.Is(err, wal.ErrSealed) || last < 10 {
		t.Fatalf("after %d entries: %v, want a sealed segment", last, err)
	}
	must(t, w.Close())

	for range 2 { // the second time there is nothing to do
		must(t, completeRotation(dir, hclog.NewNullLogger()))
	}
	w, err = wal.Open(dir, wal.WithSegmentSize(segmentSize))
	must(t, err)
	for range 50 {
		must(t, w.StoreLog(entry(last+1)))
		last++
	}
	must(t, w.Close())
	must(t, completeRotation(dir, hclog.NewNullLogger()))
	w, err = wal.Open(dir, wal.WithSegmentSize(segmentSize))
	must(t, err)
	for index := uint64(1); index <= last; index++ {
		var got raft.Log
		must(t, w.GetLog(index, &got))
		if !bytes.Equal(got.Data, entry(index).Data) {
			t.Errorf("entry %d is changed", index)
		}
	}
	must(t, w.Close())
}

// An empty folder, and a log without a full segment, are left as they are.
func TestRotationNotInterrupted(t *testing.T) {
	dir := t.TempDir()
	must(t, completeRotation(dir, hclog.NewNullLogger()))
	w, err := wal.Open(dir)
	must(t, err)
	must(t, w.StoreLog(entry(1)))
	must(t, w.Close())
	must(t, completeRotation(dir, hclog.NewNullLogger()))
	w, err = wal.Open(dir)
	must(t, err)
	must(t, w.StoreLog(entry(2)))
	must(t, w.Close())
}

// A file of the log is a part of what is kept of it.
func TestSegmentFor(t *testing.T) {
	for trailing, want := range map[int64]int{
		2 << 30: 64 << 20, 256 << 20: 64 << 20, 100 << 20: 25 << 20, 1 << 20: 1 << 20,
	} {
		if got := segmentFor(trailing); got != want {
			t.Errorf("with %d bytes of the log kept a file has %d, want %d", trailing, got, want)
		}
	}
}
