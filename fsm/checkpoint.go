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

// checkpoint is a copy of the database at one index: links to its files, in a
// folder of their own.
type checkpoint struct {
	dir           string
	files         []transferFile
	applied       *pb.AppliedRecord
	configuration *pb.ConfigurationRecord
	tables        tables
}

// takeCheckpoint flushes the live database and links its files. What the copy is
// of is read from it: the live database has moved on by then.
func (s *State) takeCheckpoint() (*checkpoint, error) {
	gen, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer gen.release()
	if err := gen.db.Flush(); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	fs := s.cfg.FS
	dir := fs.PathJoin(s.cfg.Dir, outgoingPrefix+strconv.FormatUint(s.transfers.Add(1), 10))
	if err := gen.db.Checkpoint(dir); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", errors.Join(err, fs.RemoveAll(dir)))
	}
	c, err := s.readCheckpoint(dir)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", errorOf(err, fs.RemoveAll(dir)))
	}
	return c, nil
}

// stream sends what send writes, and deletes the checkpoint after it.
func (s *State) stream(c *checkpoint, send func(io.Writer) error) io.ReadCloser {
	reader, writer := io.Pipe()
	stream := &checkpointStream{PipeReader: reader, done: make(chan struct{})}
	go func() {
		defer close(stream.done)
		writer.CloseWithError(send(writer))
		if err := s.cfg.FS.RemoveAll(c.dir); err != nil {
			s.log.Warn("remove sent checkpoint", "dir", c.dir, "error", err)
		}
	}()
	return stream
}

// openCheckpoint streams the live database to a follower that lags.
func (s *State) openCheckpoint() (*raft.SnapshotMeta, io.ReadCloser, error) {
	c, err := s.takeCheckpoint()
	if err != nil {
		return nil, nil, err
	}
	meta := metaOf(c.applied, c.configuration)
	meta.Size = streamSize(c.files)
	return meta, s.stream(c, func(w io.Writer) error { return sendFiles(w, s.cfg.FS, c.dir, c.files) }), nil
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
func (s *State) readCheckpoint(dir string) (*checkpoint, error) {
	names, err := s.cfg.FS.List(dir)
	if err != nil {
		return nil, err
	}
	// Opening adds a lock file; the list is made before.
	slices.Sort(names)
	c := &checkpoint{dir: dir}
	for _, name := range names {
		info, err := s.cfg.FS.Stat(s.cfg.FS.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		if info.IsDir() || strings.EqualFold(name, "LOCK") {
			continue
		}
		c.files = append(c.files, transferFile{name: name, size: info.Size()})
	}
	return c, s.readDatabase(dir, func(db *pebble.DB) (err error) {
		if c.applied, c.configuration, err = systemRows(db); err != nil {
			return err
		}
		c.tables, err = loadTables(db)
		return err
	})
}

// readSystemRows reads what a checkpoint is of.
func (s *State) readSystemRows(dir string) (applied *pb.AppliedRecord, configuration *pb.ConfigurationRecord, err error) {
	err = s.readDatabase(dir, func(db *pebble.DB) (err error) {
		applied, configuration, err = systemRows(db)
		return err
	})
	return applied, configuration, err
}

func systemRows(db pebble.Reader) (*pb.AppliedRecord, *pb.ConfigurationRecord, error) {
	applied, configuration := &pb.AppliedRecord{}, &pb.ConfigurationRecord{}
	err := firstError(loadRecord(db, keyApplied, applied), loadRecord(db, keyConfiguration, configuration))
	return applied, configuration, err
}

// readDatabase opens a database for reading only.
func (s *State) readDatabase(dir string, read func(*pebble.DB) error) error {
	opts := databaseOptions(s.cfg)
	opts.ReadOnly = true
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return err
	}
	return errorOf(read(db), db.Close())
}
