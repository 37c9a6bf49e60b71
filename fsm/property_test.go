package fsm

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"holdfast/test/race"
)

// Two states fold the same random log: one entry by entry, the other in batches,
// through restarts and through checkpoints of the first. They must agree at
// every step. More runs: go test -run Routes -rapid.checks=1000.
func TestTwoRoutesToTheSameState(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	rapid.Check(t, func(t *rapid.T) {
		// Rapid shrinks the length; its own numbers are too small too often for the rest.
		seed := rapid.Uint64().Draw(t, "seed")
		steps := rapid.IntRange(1, 25).Draw(t, "steps")
		script := newScript(t, rand.New(rand.NewPCG(seed, 0)).IntN)
		one, other := newRoute(t), newRoute(t)
		defer one.close()
		defer other.close()
		entries := script.setup()
		for range steps {
			for range script.pick(10) {
				entries = append(entries, script.entry())
			}
			switch script.pick(5) {
			case 0:
				other.reopen()
			case 1:
				one.reopen()
			}
			one.singly(entries)
			if script.pick(5) == 0 {
				if err := installFrom(one.state, other.state); err != nil {
					t.Fatalf("install: %v", err)
				}
			} else if len(entries) > 0 {
				fold(t, other.state, entries...)
			}
			checkSameDigests(t, "batches", digestsOf(t, other.state), digestsOf(t, one.state))
			checkState(t, other.state)
			entries = nil
		}
		checkState(t, one.state)
	})
}

// route is a state with the disk it is on.
type route struct {
	t     tester
	fs    vfs.FS
	state *State
}

func newRoute(t tester) *route {
	r := &route{t: t, fs: vfs.NewMem()}
	r.open()
	return r
}

func (r *route) singly(entries []*raft.Log) {
	for _, entry := range entries {
		fold(r.t, r.state, entry)
	}
}

func (r *route) reopen() {
	r.close()
	r.open()
}

func (r *route) open() {
	r.state = mustOpen(r.t, "/data/state", r.fs)
	tighten(r.state)
}

// tighten lowers the limits, so that short scripts reach them.
func tighten(s *State) *State {
	s.caps.listed, s.caps.verified = 4, 4
	return s
}

func (r *route) close() {
	if err := r.state.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
}

// roundsOf is how many rounds a random test runs: few by default, as many as the
// environment variable says in a long run.
func roundsOf(t *testing.T, variable string, usual int) int {
	value, ok := os.LookupEnv(variable)
	switch {
	case !ok && race.Enabled:
		return max(1, usual/4)
	case !ok:
		return usual
	}
	rounds, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("%s=%q is not a number", variable, value)
	}
	return rounds
}
