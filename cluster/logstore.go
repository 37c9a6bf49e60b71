package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// storeIDKey is where both stores keep the raft id that they belong to. A
// store of another id, or a new one, means that a part of the log or a vote is
// lost.
var storeIDKey = []byte("holdfast_store_id")

// stores are raft's files: the log, and term and vote.
type stores struct {
	log    raft.LogStore
	stable *raftboltdb.BoltStore
	wal    *wal.WAL // nil where stable is the log too
}

// smallSegment is the least size of raft-wal's files.
const smallSegment = 1 << 20

// segmentFor is how large raft-wal's files are where so much of the log is kept. A
// truncated entry's room is free only with its whole file, so a small budget needs
// small files.
func segmentFor(trailing int64) int {
	return int(min(int64(wal.DefaultSegmentSize), max(smallSegment, trailing/4)))
}

// openStores opens what is in dir, raft/ of the data folder, or makes it. New files of
// raft-wal have segment bytes.
func openStores(dir, kind string, segment int, logger hclog.Logger) (*stores, error) {
	if err := os.MkdirAll(filepath.Join(dir, "wal"), 0o700); err != nil {
		return nil, err
	}
	s, err := openFiles(dir, kind, segment, logger)
	if err != nil {
		return nil, err
	}
	// POSIX: a new name lasts only after an fsync of its folder, and bbolt does
	// none. Else a power cut may take the whole log away, and the votes.
	for _, created := range []string{filepath.Join(dir, "wal"), dir, filepath.Dir(dir)} {
		if err := syncDir(created); err != nil {
			return nil, errors.Join(fmt.Errorf("sync %s: %w", created, err), s.close())
		}
	}
	return s, nil
}

func openFiles(dir, kind string, segment int, logger hclog.Logger) (*stores, error) {
	stable, err := openBolt(filepath.Join(dir, "stable.db"))
	if err != nil {
		return nil, err
	}
	if kind == LogStoreBoltDB {
		return &stores{log: stable, stable: stable}, nil
	}
	var w *wal.WAL
	if err = completeRotation(filepath.Join(dir, "wal"), logger); err == nil {
		w, err = wal.Open(filepath.Join(dir, "wal"), wal.WithLogger(logger), wal.WithSegmentSize(segment))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the raft log in %s: %w", dir, err), stable.Close())
	}
	return &stores{log: w, stable: stable, wal: w}, nil
}

func openBolt(path string) (*raftboltdb.BoltStore, error) {
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			// Another process holds the lock: say so instead of waiting.
			Timeout:        time.Second,
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is in use: is the node running already?", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return store, nil
}

func (s *stores) close() error {
	if s.wal != nil {
		return errors.Join(s.wal.Close(), s.stable.Close())
	}
	return s.stable.Close()
}

// setID marks both stores as raftID's.
func (s *stores) setID(raftID string) error {
	if s.wal != nil {
		if err := s.wal.Set(storeIDKey, []byte(raftID)); err != nil {
			return err
		}
	}
	return s.stable.Set(storeIDKey, []byte(raftID))
}

// checkID refuses stores that don't belong together.
func (s *stores) checkID(raftID string) error {
	if s.wal != nil {
		if id, err := s.wal.Get(storeIDKey); err != nil {
			return err
		} else if string(id) != raftID {
			return lostStore("raft/wal", string(id), raftID)
		}
	}
	id, err := s.stable.Get(storeIDKey)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	if string(id) != raftID {
		return lostStore("raft/stable.db", string(id), raftID)
	}
	return nil
}

func lostStore(name, got, want string) error {
	if got == "" {
		got = "nothing"
	}
	return fmt.Errorf("%s belongs to %s, the data folder to %s: part of it is lost or was copied; empty the whole folder and let the node join again", name, got, want)
}

// hasData reports a log entry or a term.
func (s *stores) hasData() (bool, error) {
	return raft.HasExistingState(s.log, s.stable, raft.NewDiscardSnapshotStore())
}

// reconcile makes log and state fit together before raft sees them. applied is
// the index that the state ends at, all of it on disk.
func (s *stores) reconcile(applied uint64, logger *slog.Logger) error {
	first, err := s.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	switch {
	case last > 0 && last < applied:
		// A crash after a received state went live and before raft reset its
		// log. The next entry would not follow the last, and be refused for ever.
		logger.Warn("dropping the raft log that the received state has overtaken", "first", first, "last", last, "applied", applied)
		return s.log.DeleteRange(first, last)
	case first > applied+1:
		return fmt.Errorf("the raft log starts at entry %d but the state ends at %d: entries in between are lost; empty the whole data folder and let the node join again", first, applied)
	}
	return nil
}
