package fsm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"holdfast/test/race"
)

const crashDir = "/data/state"

// Power fails while a log is folded and snapshots are taken: what raft was told
// is on disk must be there, the state must be the one of some index, and the
// rest of the log must lead to where it would have led.
//
// HOLDFAST_CRASH_ROUNDS=1000 makes a long run of it.
func TestCrashWhileFolding(t *testing.T) {
	base := rand.Uint64()
	for round := range roundsOf(t, "HOLDFAST_CRASH_ROUNDS", 40) {
		seed := base + uint64(round)
		if !t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { crashRound(t, seed) }) {
			return
		}
	}
}

func crashRound(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	script := newScript(t, rng.IntN)
	entries := script.setup()
	for range 40 + rng.IntN(80) {
		entries = append(entries, script.entry())
	}
	disk := vfs.NewCrashableMem()
	live := tighten(mustOpen(t, crashDir, disk))
	var persisted atomic.Uint64
	var snapshots sync.WaitGroup
	for at, stop := 0, rng.IntN(len(entries)); at < stop; {
		n := min(1+rng.IntN(6), stop-at)
		fold(t, live, entries[at:at+n]...)
		at += n
		if rng.IntN(6) > 0 {
			continue
		}
		snapshots.Wait()
		last := entries[at-1]
		snapshots.Go(func() {
			if err := persist(live, last.Index, last.Term); err != nil {
				t.Errorf("persist %d: %v", last.Index, err)
				return
			}
			persisted.Store(last.Index)
		})
	}
	promised := persisted.Load()
	crashed := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(seed, 1))})
	snapshots.Wait()
	if err := live.Close(); err != nil {
		t.Errorf("close: %v", err)
	}

	again := tighten(openState(t, crashDir, crashed))
	index := again.AppliedIndex()
	if index < promised {
		t.Fatalf("state is at index %d, raft was told that %d is on disk", index, promised)
	}
	if durable, err := again.DurableIndex(); err != nil || durable != index {
		t.Errorf("durable index %d, applied %d: %v", durable, index, err)
	}
	checkState(t, again)
	model := tighten(openState(t, crashDir, vfs.NewMem()))
	rest := entries
	for len(rest) > 0 && rest[0].Index <= index {
		fold(t, model, rest[0])
		rest = rest[1:]
	}
	checkSameDigests(t, "after the crash", digestsOf(t, again), digestsOf(t, model))
	// Raft hands over the whole log behind its last snapshot, also what is applied.
	fold(t, again, entries...)
	if len(rest) > 0 {
		fold(t, model, rest...)
	}
	checkSameDigests(t, "at the end", digestsOf(t, again), digestsOf(t, model))
	checkState(t, again)
}

// Power fails before each of the writes by which a checkpoint is received and
// made live: the node comes up with the old state or with the new one.
func TestCrashAtEachStepOfAnInstall(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	script := newScript(t, rng.IntN)
	entries := script.setup()
	for range 60 {
		entries = append(entries, script.entry())
	}
	leader := openState(t, crashDir, vfs.NewMem())
	fold(t, leader, entries...)

	disk := vfs.NewCrashableMem()
	// What must be on disk in an order shows where one of two unsynced writes is
	// lost and not the other, which half of them gives by chance.
	hook := &crashPoints{disk: disk, rng: rng, halves: 10}
	if race.Enabled {
		hook.halves = 1
	}
	follower := openState(t, crashDir, errorfs.Wrap(disk, hook))
	old := entries[:len(entries)/2]
	fold(t, follower, old...)
	if err := persist(follower, old[len(old)-1].Index, 1); err != nil {
		t.Fatal(err)
	}
	before := digestsOf(t, follower)
	hook.arm(true)
	if err := installFrom(leader, follower); err != nil {
		t.Fatal(err)
	}
	hook.arm(false)
	after := digestsOf(t, leader)
	checkSameDigests(t, "installed", digestsOf(t, follower), after)

	came := map[uint64]int{}
	for i, crashed := range hook.clones {
		step := fmt.Sprintf("crash before step %d (%s)", i, hook.steps[i])
		state := mustOpen(t, crashDir, crashed)
		index := state.AppliedIndex()
		came[index]++
		switch index {
		case old[len(old)-1].Index:
			checkSameDigests(t, step, digestsOf(t, state), before)
		case entries[len(entries)-1].Index:
			checkSameDigests(t, step, digestsOf(t, state), after)
		default:
			t.Errorf("%s: the state is at index %d", step, index)
		}
		checkLeftovers(t, step, crashed)
		fold(t, state, entries...)
		checkSameDigests(t, step+", then the log", digestsOf(t, state), after)
		if err := state.Close(); err != nil {
			t.Errorf("%s: close: %v", step, err)
		}
	}
	if len(hook.clones) < 20 || len(came) != 2 {
		t.Errorf("%d steps came to indexes %v, want the old and the new", len(hook.clones), came)
	}
}

// A database that opens moves its marker to a new MANIFEST. Whatever a crash
// keeps of names that weren't on disk yet, it can be opened again.
func TestCrashAtEachStepOfAnOpen(t *testing.T) {
	script := newScript(t, rand.New(rand.NewPCG(1, 1)).IntN)
	disk := vfs.NewCrashableMem()
	first := openState(t, crashDir, disk)
	entries := script.setup()
	fold(t, first, entries...)
	want := digestsOf(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(roundsOf(t, "HOLDFAST_CRASH_ROUNDS", 40)) {
		rng := rand.New(rand.NewPCG(seed, 0))
		again := disk.CrashClone(vfs.CrashCloneCfg{})
		hook := &crashPoints{disk: again, rng: rng, armed: true}
		if err := mustOpen(t, crashDir, errorfs.Wrap(again, hook)).Close(); err != nil {
			t.Fatal(err)
		}
		for i, crashed := range hook.clones {
			state := mustOpen(t, crashDir, crashed)
			checkSameDigests(t, fmt.Sprintf("seed %d, crash before step %d (%s)", seed, i, hook.steps[i]), digestsOf(t, state), want)
			if err := state.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkLeftovers: nothing but one generation and CURRENT is in the folder.
func checkLeftovers(t *testing.T, step string, fs vfs.FS) {
	t.Helper()
	names, err := fs.List(crashDir)
	if err != nil {
		t.Fatal(err)
	}
	generations := 0
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, generationPrefix):
			generations++
		case strings.HasPrefix(name, currentFile):
		default:
			t.Errorf("%s: %s is left", step, name)
		}
	}
	if generations != 1 {
		t.Errorf("%s: %d generations in %v", step, generations, names)
	}
}

// crashPoints keeps a copy of the disk as a crash before each write would leave it.
type crashPoints struct {
	disk *vfs.MemFS
	rng  *rand.Rand

	// halves is how many copies with half of what is unsynced are kept of a step,
	// beside one with nothing and one with all of it; 0 keeps one of the three.
	halves int

	mu     sync.Mutex // guards the fields below
	armed  bool
	clones []*vfs.MemFS
	steps  []string
}

func (c *crashPoints) String() string { return "crash points" }

func (c *crashPoints) arm(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = on
}

func (c *crashPoints) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed {
		return nil
	}
	percents := []int{[]int{0, 50, 100}[c.rng.IntN(3)]}
	if c.halves > 0 {
		percents = append(slices.Repeat([]int{50}, c.halves), 0, 100)
	}
	for _, percent := range percents {
		c.clones = append(c.clones, c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.rng}))
		c.steps = append(c.steps, fmt.Sprintf("%d %s, %d%% of what is unsynced", op.Kind, op.Path, percent))
	}
	return nil
}

// A snapshot that raft takes of a state that a Restore has replaced since must
// not let it truncate anything.
func TestPersistOfAReplacedStateFails(t *testing.T) {
	leader, follower := newWorld(t), newWorld(t)
	leader.configureCluster()
	follower.up("a", 1, 0)
	leader.up("a", 1, 0)
	leader.configure(1)
	snapshot, err := follower.state.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Release()
	if err := installFrom(leader.state, follower.state); err != nil {
		t.Fatal(err)
	}
	sink, err := follower.state.Snapshots().Create(raft.SnapshotVersionMax, 2, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := snapshot.Persist(sink); err == nil {
		t.Error("the snapshot of the replaced state was persisted")
	}
}

// lockedAbove is a disk on which the folder above can't be opened.
type lockedAbove struct{ vfs.FS }

func (lockedAbove) OpenDir(string) (vfs.File, error) { return nil, os.ErrPermission }

// A data folder that the node made itself is there after a power cut, also where the
// node was killed before it came to the sync; what others made needn't be synced.
func TestDataFolderAfterPowerCut(t *testing.T) {
	const dir = "/srv/mail/holdfast"
	for name, before := range map[string]func(fs vfs.FS) error{
		"new":    func(vfs.FS) error { return nil },
		"killed": func(fs vfs.FS) error { return errors.Join(makeDir(fs, "/srv/mail"), fs.MkdirAll(dir, 0o700)) },
	} {
		disk := vfs.NewCrashableMem()
		if err := errors.Join(before(disk), makeDataDir(disk, dir)); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.CrashClone(vfs.CrashCloneCfg{}).Stat(dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := makeDataDir(lockedAbove{disk}, dir); err != nil {
			t.Errorf("%s, the folder above is locked: %v", name, err)
		}
		if err := makeDataDir(lockedAbove{disk}, dir+"/data"); !errors.Is(err, os.ErrPermission) {
			t.Errorf("%s, no sync of a folder that was made: %v", name, err)
		}
	}
}
