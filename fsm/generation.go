package fsm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A data folder holds generations: each Restore opens a received checkpoint as
// the next one. CURRENT names the one that is live.
const (
	currentFile      = "CURRENT-GENERATION"
	generationPrefix = "gen-"
	incomingPrefix   = "incoming-"
	outgoingPrefix   = "outgoing-"
)

// generation is one database with the number of those who read it. It is
// closed, and once superseded also deleted, when the last of them is gone: a
// Restore waits for no reader.
type generation struct {
	number uint64
	dir    string
	db     *pebble.DB

	fs  vfs.FS
	log *slog.Logger

	mu         sync.Mutex // guards the fields below
	refs       int
	superseded bool
	closed     chan struct{}
	closeErr   error
}

// Memory of the database, in bytes. Pebble takes the memtables out of the
// cache: with room for one that fills and one that is being flushed, half of it
// is left for blocks.
const (
	memtableSize = 32 << 20
	cacheSize    = 4 * memtableSize
)

func openGeneration(cfg Config, number uint64) (*generation, error) {
	dir := cfg.FS.PathJoin(cfg.Dir, generationName(number))
	watched := cfg
	watched.FS = failFast{FS: markerOrder{cfg.FS}, dir: dir, fatal: cfg.Fatal}
	db, err := pebble.Open(dir, databaseOptions(watched))
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", dir, err)
	}
	return &generation{
		number: number, dir: dir, db: db, fs: cfg.FS, log: cfg.Logger,
		refs: 1, closed: make(chan struct{}),
	}, nil
}

// databaseOptions: no WAL, since the raft log is it; large memtables, since a
// body is then written twice only if it outlives one; bodies in blob files,
// since compactions would else copy them again and again.
func databaseOptions(cfg Config) *pebble.Options {
	opts := &pebble.Options{
		FS:                          cfg.FS,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		CacheSize:                   cacheSize,
		MemTableSize:                memtableSize,
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       20,
		Logger:                      databaseLogger{log: cfg.Logger, fatal: cfg.Fatal},
		EventListener:               databaseEvents(cfg),
	}
	// Most look-ups ask for what was written a moment ago or was never there;
	// filters spare the second kind every file.
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	opts.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled:               true,
			MinimumSize:           4 << 10,
			MaxBlobReferenceDepth: 10,
			RewriteMinimumAge:     time.Minute,
			TargetGarbageRatio:    0.3,
		}
	}
	opts.Experimental.CompactionScheduler = cfg.Compactions
	// Only a file system that Pebble chose itself is watched for slow writes without this.
	opts.WithFSDefaults()
	return opts
}

func databaseEvents(cfg Config) *pebble.EventListener {
	return &pebble.EventListener{
		// A flush or compaction that failed leaves the state behind the log: the
		// log would be truncated by the next snapshot.
		BackgroundError: func(err error) { cfg.Fatal(fmt.Errorf("state: background write: %w", err)) },
		// Who reads gets the error, and knows what it means: a body that is damaged is
		// delivered by another node, a row that Apply needs ends this one. Without this
		// Pebble would have the node end at each try to read what is damaged.
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			cfg.Logger.Error("state: a file is damaged", "path", info.Path, "error", info.Details)
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			cfg.Logger.Warn("disk is slow", "path", info.Path, "op", info.OpType.String(), "duration", info.Duration)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			cfg.Logger.Warn("state: writes stall", "reason", info.Reason)
		},
	}
}

// databaseLogger passes on what Pebble can't go on from.
type databaseLogger struct {
	log   *slog.Logger
	fatal func(error)
}

func (l databaseLogger) Infof(format string, args ...any) {}
func (l databaseLogger) Errorf(format string, args ...any) {
	l.log.Error("state", "error", fmt.Sprintf(format, args...))
}
func (l databaseLogger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("state: "+format, args...))
}

// retain adds a reader; release must follow.
func (g *generation) retain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refs++
}

func (g *generation) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refs--
	if g.refs > 0 {
		return
	}
	g.closeErr = g.db.Close()
	if g.superseded {
		if err := g.fs.RemoveAll(g.dir); err != nil {
			g.log.Warn("remove old state", "dir", g.dir, "error", err)
		}
	}
	close(g.closed)
}

// supersede drops the state's own reference to a generation that is no longer live.
func (g *generation) supersede() {
	g.mu.Lock()
	g.superseded = true
	g.mu.Unlock()
	g.release()
}

// close drops the state's own reference and waits for the readers.
func (g *generation) close() error {
	g.release()
	<-g.closed
	return g.closeErr
}

func generationName(number uint64) string {
	return generationPrefix + strconv.FormatUint(number, 10)
}

// joinAnew is what becomes of a damaged folder. Its log and its votes go with it: an old
// copy of them would elect a leader without what was acknowledged since.
const joinAnew = "empty the node's whole data folder, and let it join anew; never put an older copy in its place"

// currentGeneration reads CURRENT, 1 in a new folder, and deletes what a crash
// left of other generations and of transfers. CURRENT is on disk before the first
// generation, and each later generation before CURRENT names it: one without the
// other is damage, and to begin with an empty state would hide it.
func currentGeneration(cfg Config) (uint64, error) {
	names, err := cfg.FS.List(cfg.Dir)
	if err != nil {
		return 0, fmt.Errorf("list %s: %w", cfg.Dir, err)
	}
	number := uint64(0)
	for _, name := range names {
		if name == currentFile {
			if number, err = readCurrent(cfg); err != nil {
				return 0, err
			}
		}
	}
	isGeneration := func(name string) bool { return strings.HasPrefix(name, generationPrefix) }
	switch {
	case number == 0 && slices.ContainsFunc(names, isGeneration):
		return 0, fmt.Errorf("%s is missing in %s: %s", currentFile, cfg.Dir, joinAnew)
	case number == 0:
		number = 1
		if err := writeCurrent(cfg, number); err != nil {
			return 0, err
		}
	case number > 1 && !slices.Contains(names, generationName(number)):
		return 0, fmt.Errorf("%s in %s names %s, which is missing: %s",
			currentFile, cfg.Dir, generationName(number), joinAnew)
	}
	for _, name := range names {
		leftover := isGeneration(name) && name != generationName(number) ||
			strings.HasPrefix(name, incomingPrefix) || strings.HasPrefix(name, outgoingPrefix)
		if !leftover {
			continue
		}
		if err := cfg.FS.RemoveAll(cfg.FS.PathJoin(cfg.Dir, name)); err != nil {
			return 0, fmt.Errorf("remove leftover %s: %w", name, err)
		}
	}
	return number, nil
}

func readCurrent(cfg Config) (uint64, error) {
	file, err := cfg.FS.Open(cfg.FS.PathJoin(cfg.Dir, currentFile))
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", currentFile, err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", currentFile, err)
	}
	number, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(string(text), generationPrefix)), 10, 64)
	if err != nil || number == 0 {
		return 0, fmt.Errorf("%s in %s is damaged: %q", currentFile, cfg.Dir, text)
	}
	return number, nil
}

// writeCurrent moves CURRENT in one step: a crash leaves the old or the new.
func writeCurrent(cfg Config, number uint64) error {
	path := cfg.FS.PathJoin(cfg.Dir, currentFile)
	file, err := cfg.FS.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s: %w", currentFile, err)
	}
	if _, err := file.Write([]byte(generationName(number) + "\n")); err != nil {
		return fmt.Errorf("write %s: %w", currentFile, errorOf(err, file.Close()))
	}
	if err := errorOf(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", currentFile, err)
	}
	if err := cfg.FS.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write %s: %w", currentFile, err)
	}
	return syncDir(cfg.FS, cfg.Dir)
}

// MakeDataDir creates a node's data folder as makeDir does. Where an earlier start
// made it, that may have been killed before the sync; where somebody else did, the
// folder above it may not be ours to open, and needn't be.
func MakeDataDir(dir string) error { return makeDataDir(vfs.Default, dir) }

func makeDataDir(fs vfs.FS, dir string) error {
	info, err := fs.Stat(dir)
	isThere := err == nil && info.IsDir()
	if err := makeDir(fs, dir); err != nil && !isThere {
		return err
	}
	return nil
}

// makeDir creates a folder, with the missing ones above it, so that a crash
// doesn't take it away again.
func makeDir(fs vfs.FS, dir string) error {
	parent := fs.PathDir(dir)
	if _, err := fs.Stat(parent); errors.Is(err, os.ErrNotExist) {
		if err := makeDir(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errorOf(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// errorOf is the first of two errors: of the work, and of the close after it.
func errorOf(work, closing error) error {
	if work != nil {
		return work
	}
	return closing
}
