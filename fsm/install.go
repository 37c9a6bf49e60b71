package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/hashicorp/raft"
)

// install takes a checkpoint from the leader. It goes through these places, and
// a crash at any of them leaves the old generation live and the rest to be
// deleted by the next Open:
//
//	incoming-N.tmp  while it arrives
//	incoming-N      complete, checked and on disk; raft now calls Restore
//	gen-M           renamed by Restore; live once CURRENT names it
type install struct {
	state  *State
	meta   raft.SnapshotMeta
	number uint64
	dir    string // incoming-N
	pipe   *io.PipeWriter
	done   chan error
}

func (s *State) startInstall(meta raft.SnapshotMeta) (*install, error) {
	n := s.transfers.Add(1)
	fs := s.cfg.FS
	i := &install{
		state: s, meta: meta, number: n,
		dir:  fs.PathJoin(s.cfg.Dir, incomingPrefix+strconv.FormatUint(n, 10)),
		done: make(chan error, 1),
	}
	if err := fs.MkdirAll(i.tmp(), 0o700); err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	reader, writer := io.Pipe()
	i.pipe = writer
	go func() {
		err := receiveFiles(reader, fs, i.tmp(), s.mayTake)
		reader.CloseWithError(err)
		i.done <- err
	}()
	return i, nil
}

func (i *install) tmp() string { return i.dir + ".tmp" }

// mayTake refuses a checkpoint that would fill the disk: a tenth more than its
// size must be free.
func (s *State) mayTake(size int64) error {
	usage, err := s.cfg.FS.GetDiskUsage(s.cfg.Dir)
	if err != nil {
		// A file system that can't tell is given the benefit of the doubt.
		s.log.Warn("free space is unknown", "dir", s.cfg.Dir, "error", err)
		return nil
	}
	if need := uint64(size) + uint64(size)/10; usage.AvailBytes < need {
		return fmt.Errorf("install: %d bytes needed, %d free in %s", need, usage.AvailBytes, s.cfg.Dir)
	}
	return nil
}

func (i *install) Write(p []byte) (int, error) { return i.pipe.Write(p) }

// finish checks the checkpoint and puts it where Restore finds it.
func (i *install) finish() error {
	if err := errorOf(i.pipe.Close(), <-i.done); err != nil {
		return errors.Join(err, i.state.cfg.FS.RemoveAll(i.tmp()))
	}
	applied, _, err := i.state.readSystemRows(i.tmp())
	if err == nil && applied.Index != i.meta.Index {
		err = fmt.Errorf("the checkpoint is of index %d, not %d", applied.Index, i.meta.Index)
	}
	if err == nil {
		// Before it takes the old one's place: that one is of use to an older program.
		if err = checkOwn(applied.Version); err != nil {
			i.state.fatal(err)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("install: %w", err), i.state.cfg.FS.RemoveAll(i.tmp()))
	}
	if err := i.state.cfg.FS.Rename(i.tmp(), i.dir); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return syncDir(i.state.cfg.FS, i.state.cfg.Dir)
}

func (i *install) cancel() error {
	i.pipe.CloseWithError(errors.New("cancelled"))
	if err := <-i.done; err != nil {
		i.state.log.Info("install cancelled", "index", i.meta.Index, "error", err)
	}
	return i.state.cfg.FS.RemoveAll(i.tmp())
}

// openReceived hands Restore the name of a received checkpoint.
func (s *State) openReceived(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	applied, configuration, err := s.readSystemRows(s.cfg.FS.PathJoin(s.cfg.Dir, id))
	if err != nil {
		return nil, nil, fmt.Errorf("open received checkpoint: %w", err)
	}
	meta := metaOf(applied, configuration)
	meta.ID, meta.Size = id, int64(len(id))
	return meta, io.NopCloser(bytes.NewReader([]byte(id))), nil
}

// Restore makes a received checkpoint the live generation. Readers of the old
// one finish on it.
func (s *State) Restore(source io.ReadCloser) error {
	if s.hasFailed() {
		return ErrClosed
	}
	name, err := io.ReadAll(io.LimitReader(source, 100))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := s.restore(string(name)); err != nil {
		// Half a restore can't be undone in place; the next start knows which
		// generation is live.
		err = fmt.Errorf("restore %s: %w", name, err)
		s.fatal(err)
		return err
	}
	s.metrics.installs.Inc()
	return nil
}

func (s *State) restore(name string) error {
	fs := s.cfg.FS
	s.live.RLock()
	number := s.live.gen.number + 1
	s.live.RUnlock()
	if err := fs.Rename(fs.PathJoin(s.cfg.Dir, name), fs.PathJoin(s.cfg.Dir, generationName(number))); err != nil {
		return err
	}
	if err := syncDir(fs, s.cfg.Dir); err != nil {
		return err
	}
	if err := writeCurrent(s.cfg, number); err != nil {
		return err
	}
	gen, err := openGeneration(s.cfg, number)
	if err != nil {
		return err
	}
	if err := s.load(gen); err != nil {
		return errors.Join(err, gen.close())
	}
	s.log.Info("state replaced by a checkpoint", "index", s.AppliedIndex(), "generation", number)
	return nil
}
