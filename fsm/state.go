package fsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// Errors that callers tell apart.
var (
	// ErrNotFound: no such message.
	ErrNotFound = errors.New("not found")
	// ErrClosed: the state was closed, or failed.
	ErrClosed = errors.New("state is closed")
	// ErrSaving: another snapshot is being saved.
	ErrSaving = errors.New("a snapshot is being saved")
)

// Config says where the state is and who is told of its end.
type Config struct {
	Dir     string // created if missing
	Node    string // this node's name: whose claims the feed passes on
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	FS      vfs.FS // nil: the operating system's
	// Compactions says when the database may compact; nil is its own way, which
	// looks ten times a second.
	Compactions pebble.CompactionScheduler
	// Fatal is called once where the state can't be kept: a failed read or write,
	// an entry that this version doesn't know. The node must stop.
	Fatal func(error)
}

// State is the replicated state of one node.
type State struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	notify  func(error) // Config.Fatal as it was given
	fail    sync.Once
	failed  chan struct{} // closed once the state can't go on

	// live guards what readers see: all of it belongs to one index.
	live struct {
		sync.RWMutex
		gen     *generation
		tables  tables
		applied *pb.AppliedRecord
	}
	configuration *pb.ConfigurationRecord // guarded by live

	// Owned by Apply and Restore, which raft calls from one goroutine.
	digests  digests
	sessions map[uint64]*session
	uploads  uploads
	orphans  orphans // of the uploads

	transfers atomic.Uint64 // numbers the folders of checkpoints sent and received
	saving    atomic.Bool   // a snapshot is on its way to an operator

	claims claims
	feed   feed
	marks  marks

	rowCheck   atomic.Pointer[pb.RowCheck]        // the latest
	unreadable atomic.Pointer[pb.RowCheck_Damage] // found since, the latest
	waiters    waiters

	caps caps
}

// caps bound how many rows there may be. All nodes have the same: only tests
// set others, before anything is applied.
type caps struct {
	listed   uint64 // of one domain
	verified uint64
	// verifiedOfDomain are of one domain.
	verifiedOfDomain uint64
	configured       uint64 // changed by one configuration
}

// Open opens the state in a folder, or makes a new one. It deletes what an
// interrupted transfer left behind.
func Open(cfg Config) (*State, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	s := &State{cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Metrics), failed: make(chan struct{})}
	s.caps = caps{listed: MaxListed, verified: maxVerified, verifiedOfDomain: maxVerifiedOfDomain, configured: MaxConfigured}
	s.notify, s.cfg.Fatal, s.cfg.FS = cfg.Fatal, s.fatal, failStop(cfg.FS, s.failed)
	s.feed.init()
	s.waiters.init()
	if err := makeDir(s.cfg.FS, cfg.Dir); err != nil {
		return nil, fmt.Errorf("create %s: %w", cfg.Dir, err)
	}
	number, err := currentGeneration(s.cfg)
	if err != nil {
		return nil, err
	}
	gen, err := openGeneration(s.cfg, number)
	if err != nil {
		return nil, err
	}
	if err := s.load(gen); err != nil {
		return nil, errors.Join(err, gen.close())
	}
	cfg.Metrics.MustRegister(collector{s})
	return s, nil
}

// load makes a generation the live one and reads into memory what Apply keeps there.
func (s *State) load(gen *generation) error {
	applied := &pb.AppliedRecord{Version: firstVersion}
	configuration := &pb.ConfigurationRecord{}
	if err := firstError(loadRecord(gen.db, keyApplied, applied), loadRecord(gen.db, keyConfiguration, configuration)); err != nil {
		return err
	}
	// Before anything else is read: what it has may be beyond this program.
	if err := checkOwn(applied.Version); err != nil {
		return err
	}
	tables, err := loadTables(gen.db)
	if err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	sessions, err := loadSessions(gen.db)
	if err != nil {
		return fmt.Errorf("load sessions: %w", err)
	}
	if err := s.claims.load(gen.db); err != nil {
		return fmt.Errorf("load claims: %w", err)
	}
	uploads, err := loadUploads(gen.db)
	if err != nil {
		return fmt.Errorf("load uploads: %w", err)
	}
	s.sessions, s.uploads, s.orphans = sessions, uploads, uploads.orphaned(sessions)
	s.digests.load(applied.Digests)
	// An older program may have left out families that it didn't know.
	applied.Digests = s.digests.record(tables.version)

	s.live.Lock()
	old := s.live.gen
	s.live.gen, s.live.tables, s.live.applied = gen, tables, applied
	s.configuration = configuration
	s.waiters.advance(applied.Index)
	s.live.Unlock()

	if old != nil {
		old.supersede()
	}
	s.feed.reset()
	s.metrics.applied.Set(float64(applied.Index))
	return nil
}

// Close flushes and closes the state. Readers must be done, and raft stopped.
func (s *State) Close() error {
	s.live.Lock()
	gen := s.live.gen
	s.live.gen = nil
	s.live.Unlock()
	if gen == nil {
		return nil
	}
	s.waiters.close()
	if s.hasFailed() {
		// On a disk that fails a flush never ends.
		return gen.close()
	}
	// Close doesn't flush: without this, the next start replays the log.
	err := gen.db.Flush()
	return errors.Join(err, gen.close())
}

// fatal stops the state for good: nothing is applied after it.
func (s *State) fatal(err error) {
	s.fail.Do(func() {
		close(s.failed)
		s.waiters.close()
		s.cfg.Logger.Error("state failed", "error", err)
		s.notify(err)
	})
}

func (s *State) hasFailed() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

// AppliedIndex is the raft index up to which readers see the log folded. It
// lags raft's own by entries that carry no event.
func (s *State) AppliedIndex() uint64 {
	s.live.RLock()
	defer s.live.RUnlock()
	return s.live.applied.Index
}

// WaitApplied returns once the index is applied, or with ctx's error, or with
// ErrClosed.
func (s *State) WaitApplied(ctx context.Context, index uint64) error {
	return s.waiters.wait(ctx, index)
}

// DurableIndex is the applied index that a crash would leave on disk.
func (s *State) DurableIndex() (uint64, error) {
	gen, err := s.acquire()
	if err != nil {
		return 0, err
	}
	defer gen.release()
	applied := &pb.AppliedRecord{}
	iter, err := gen.db.NewIter(&pebble.IterOptions{
		LowerBound: keyApplied, UpperBound: after(keyApplied), OnlyReadGuaranteedDurable: true,
	})
	if err != nil {
		return 0, fmt.Errorf("durable index: %w", err)
	}
	defer iter.Close()
	if iter.First() {
		if err := proto.Unmarshal(iter.Value(), applied); err != nil {
			return 0, fmt.Errorf("durable index: %w", err)
		}
	}
	return applied.Index, iter.Error()
}

// ClusterID is the id of the cluster whose log this is, "" before its first event.
func (s *State) ClusterID() string {
	s.live.RLock()
	defer s.live.RUnlock()
	return s.live.applied.ClusterId
}

// Configuration is the raft configuration as of the applied index.
func (s *State) Configuration() (raft.Configuration, uint64) {
	s.live.RLock()
	defer s.live.RUnlock()
	if s.configuration.Index == 0 {
		return raft.Configuration{}, 0
	}
	return raft.DecodeConfiguration(s.configuration.Configuration), s.configuration.Index
}

// acquire pins the live generation; the caller releases it.
func (s *State) acquire() (*generation, error) {
	s.live.RLock()
	defer s.live.RUnlock()
	if s.live.gen == nil {
		return nil, ErrClosed
	}
	s.live.gen.retain()
	return s.live.gen, nil
}

// published are the tables that readers see.
func (s *State) published() tables {
	s.live.RLock()
	defer s.live.RUnlock()
	return s.live.tables
}
