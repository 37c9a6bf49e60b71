package fsm

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// flushTimeout bounds how long a snapshot waits for the memtables to reach the
// disk. When it passes nothing is truncated, and raft tries again later.
const flushTimeout = 2 * time.Minute

// liveID names the live database among the snapshots.
const liveID = "live"

// Snapshot costs nothing: the live database is the snapshot. What Persist has
// to do is to see that it is on disk.
func (s *State) Snapshot() (raft.FSMSnapshot, error) {
	gen, err := s.acquire()
	if err != nil {
		return nil, err
	}
	return &liveSnapshot{state: s, gen: gen}, nil
}

type liveSnapshot struct {
	state *State
	gen   *generation
}

// Persist returns nil only after a flush of all that is applied up to the
// snapshot's index: raft truncates the log behind it, and the log is the only
// other copy. It moves the applied index up to the snapshot's, which may be
// later by entries that carry no event.
func (l *liveSnapshot) Persist(sink raft.SnapshotSink) error {
	live, ok := sink.(*liveSink)
	if !ok {
		return fmt.Errorf("snapshot sink is a %T, not of this state's store", sink)
	}
	if l.state.hasFailed() {
		return ErrClosed
	}
	if err := l.state.raiseApplied(l.gen, live.meta.Index, live.meta.Term); err != nil {
		return err
	}
	done, err := l.gen.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("flush state: %w", err)
	}
	timeout := time.NewTimer(flushTimeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-l.state.failed:
		return ErrClosed
	case <-timeout.C:
		return fmt.Errorf("flush state: not done in %s", flushTimeout)
	}
	if l.state.hasFailed() {
		// A flush that failed first and then went through proves nothing.
		return ErrClosed
	}
	durable, err := l.state.DurableIndex()
	if err != nil {
		return err
	}
	if durable < live.meta.Index {
		return fmt.Errorf("flush state: index %d is on disk, want %d", durable, live.meta.Index)
	}
	return nil
}

func (l *liveSnapshot) Release() { l.gen.release() }

// raiseApplied moves the applied index over entries that carry no event.
func (s *State) raiseApplied(gen *generation, index, term uint64) error {
	s.live.Lock()
	defer s.live.Unlock()
	if s.live.gen != gen {
		return errors.New("the state was replaced since the snapshot began")
	}
	if s.live.applied.Index >= index {
		return nil
	}
	applied := proto.Clone(s.live.applied).(*pb.AppliedRecord)
	applied.Index, applied.Term = index, term
	if err := gen.db.Set(keyApplied, encode(applied), pebble.NoSync); err != nil {
		return fmt.Errorf("raise applied index: %w", err)
	}
	s.live.applied = applied
	s.waiters.advance(index)
	return nil
}

// Snapshots is the raft.SnapshotStore over the live database.
func (s *State) Snapshots() raft.SnapshotStore { return &snapshotStore{state: s} }

type snapshotStore struct{ state *State }

// Create does no I/O: it serves raft's own snapshots, to which nothing is
// written, and received ones, whose first Write begins an install.
func (st *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64,
	configuration raft.Configuration, configurationIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	return &liveSink{
		state: st.state,
		meta: raft.SnapshotMeta{
			Version: version, ID: liveID, Index: index, Term: term,
			Configuration: configuration, ConfigurationIndex: configurationIndex,
		},
	}, nil
}

// List has the live database and nothing else. A received checkpoint that isn't
// live yet must not be listed: raft would take its index as applied.
func (st *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	st.state.live.RLock()
	defer st.state.live.RUnlock()
	meta := metaOf(st.state.live.applied, st.state.configuration)
	if meta.Index == 0 || meta.ConfigurationIndex == 0 {
		return nil, nil
	}
	return []*raft.SnapshotMeta{meta}, nil
}

func metaOf(applied *pb.AppliedRecord, configuration *pb.ConfigurationRecord) *raft.SnapshotMeta {
	meta := &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: liveID, Index: applied.Index, Term: applied.Term,
		ConfigurationIndex: configuration.Index,
	}
	if configuration.Index > 0 {
		meta.Configuration = raft.DecodeConfiguration(configuration.Configuration)
	}
	return meta
}

// Open gives the live database as a stream for a follower that lags, or the name
// of a received checkpoint for Restore.
func (st *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id == liveID {
		return st.state.openCheckpoint()
	}
	return st.state.openReceived(id)
}

// liveSink is where raft persists a snapshot, or writes a received one.
type liveSink struct {
	state   *State
	meta    raft.SnapshotMeta
	install *install // from the first Write on
}

// ID names the live database, or the received checkpoint.
func (k *liveSink) ID() string {
	if k.install == nil {
		return k.meta.ID
	}
	return incomingPrefix + strconv.FormatUint(k.install.number, 10)
}

func (k *liveSink) Write(p []byte) (int, error) {
	if k.install == nil {
		started, err := k.state.startInstall(k.meta)
		if err != nil {
			return 0, err
		}
		k.install = started
	}
	return k.install.Write(p)
}

func (k *liveSink) Close() error {
	if k.install == nil {
		return nil
	}
	return k.install.finish()
}

func (k *liveSink) Cancel() error {
	if k.install == nil {
		return nil
	}
	return k.install.cancel()
}
