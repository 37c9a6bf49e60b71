package fsm

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	pb "holdfast/proto/holdfast/v1"
)

// openCheckpoint flushes the live database, links its files into a folder of
// their own and streams them from there. Index, term and configuration are read
// from that copy: the live database has moved on by then.
func (s *State) openCheckpoint() (*raft.SnapshotMeta, io.ReadCloser, error) {
	gen, err := s.acquire()
	if err != nil {
		return nil, nil, err
	}
	defer gen.release()
	if err := gen.db.Flush(); err != nil {
		return nil, nil, fmt.Errorf("checkpoint: %w", err)
	}
	fs := s.cfg.FS
	dir := fs.PathJoin(s.cfg.Dir, outgoingPrefix+strconv.FormatUint(s.transfers.Add(1), 10))
	if err := gen.db.Checkpoint(dir); err != nil {
		return nil, nil, fmt.Errorf("checkpoint: %w", errors.Join(err, fs.RemoveAll(dir)))
	}
	meta, files, err := s.readCheckpoint(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint: %w", errorOf(err, fs.RemoveAll(dir)))
	}
	meta.Size = streamSize(files)
	reader, writer := io.Pipe()
	stream := &checkpointStream{PipeReader: reader, done: make(chan struct{})}
	go func() {
		defer close(stream.done)
		err := sendFiles(writer, fs, dir, files)
		writer.CloseWithError(err)
		if err := fs.RemoveAll(dir); err != nil {
			s.log.Warn("remove sent checkpoint", "dir", dir, "error", err)
		}
	}()
	return meta, stream, nil
}

// checkpointStream waits at its Close for the goroutine that feeds it.
type checkpointStream struct {
	*io.PipeReader
	done chan struct{}
}

func (c *checkpointStream) Close() error {
	err := c.PipeReader.Close()
	<-c.done
	return err
}

// readCheckpoint reads what a checkpoint is of, and lists its files.
func (s *State) readCheckpoint(dir string) (*raft.SnapshotMeta, []transferFile, error) {
	names, err := s.cfg.FS.List(dir)
	if err != nil {
		return nil, nil, err
	}
	// Opening adds a lock file; the list is made before.
	slices.Sort(names)
	var files []transferFile
	for _, name := range names {
		info, err := s.cfg.FS.Stat(s.cfg.FS.PathJoin(dir, name))
		if err != nil {
			return nil, nil, err
		}
		if info.IsDir() || strings.EqualFold(name, "LOCK") {
			continue
		}
		files = append(files, transferFile{name: name, size: info.Size()})
	}
	applied, configuration, err := s.readSystemRows(dir)
	if err != nil {
		return nil, nil, err
	}
	return metaOf(applied, configuration), files, nil
}

// readSystemRows opens a checkpoint for reading only.
func (s *State) readSystemRows(dir string) (*pb.AppliedRecord, *pb.ConfigurationRecord, error) {
	opts := databaseOptions(s.cfg)
	opts.ReadOnly = true
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, nil, err
	}
	applied, configuration := &pb.AppliedRecord{}, &pb.ConfigurationRecord{}
	err = firstError(loadRecord(db, keyApplied, applied), loadRecord(db, keyConfiguration, configuration))
	return applied, configuration, errorOf(err, db.Close())
}
