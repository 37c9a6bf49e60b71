package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// completeRotation does what a crash kept raft-wal from doing. When a segment is
// full its last append seals it, and only then does the meta database name the
// next one. After a crash in between raft-wal 0.4.2 opens the sealed segment as
// the one to write to, and refuses every append from then on. All nodes fill
// their segments at the same entry, so a power cut could stop them all for good.
func completeRotation(dir string, logger hclog.Logger) (err error) {
	if _, err := os.Stat(filepath.Join(dir, metadb.FileName)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	meta := &metadb.BoltMetaDB{}
	state, err := meta.Load(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, meta.Close()) }()
	last := len(state.Segments) - 1
	if last < 0 || !state.Segments[last].SealTime.IsZero() {
		return nil
	}
	tail := state.Segments[last]
	sealed, err := sealOf(dir, &tail)
	if err != nil || !sealed {
		return err
	}
	logger.Warn("completing the rotation of the raft log that a crash interrupted", "segment", segment.FileName(tail), "last", tail.MaxIndex)
	next := tail.MaxIndex + 1
	state.Segments[last] = tail
	// raft-wal makes the file itself, as after a crash just before it did.
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: next, MinIndex: next,
		SizeLimit: tail.SizeLimit, Codec: tail.Codec, CreateTime: time.Now(),
	})
	state.NextSegmentID++
	return meta.CommitState(state)
}

// sealOf reports whether a segment is sealed on disk, and then notes where it ends.
func sealOf(dir string, tail *types.SegmentInfo) (sealed bool, err error) {
	writer, err := segment.NewFiler(dir, fs.New()).RecoverTail(*tail)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // raft-wal makes it
	}
	if err != nil {
		return false, fmt.Errorf("segment %s: %w", segment.FileName(*tail), err)
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	sealed, start, err := writer.Sealed()
	if sealed {
		tail.MaxIndex, tail.IndexStart, tail.SealTime = writer.LastIndex(), start, time.Now()
	}
	return sealed, err
}
