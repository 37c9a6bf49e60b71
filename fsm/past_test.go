package fsm

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/race"
)

// moment is what readers saw at an index.
type moment struct {
	index      uint64
	queue      map[relay.MessageID]bool
	recipients map[relay.MessageID][]*pb.RecipientRecord
	tables     tables
}

func momentOf(t *testing.T, v *View, ids []relay.MessageID) moment {
	t.Helper()
	m := moment{
		index: v.Index(), tables: v.tables,
		queue: make(map[relay.MessageID]bool), recipients: make(map[relay.MessageID][]*pb.RecipientRecord),
	}
	for cursor := []byte(nil); ; {
		listed, next, err := v.Queue(Filter{}, cursor, 7)
		if err != nil {
			t.Fatalf("queue at %d: %v", v.Index(), err)
		}
		for _, id := range listed {
			m.queue[id] = true
		}
		if cursor = next; cursor == nil {
			break
		}
	}
	for _, id := range ids {
		if _, err := v.Message(id); err != nil {
			continue
		}
		records, err := v.Recipients(id)
		if err != nil {
			t.Fatalf("%s at %d: %v", id, v.Index(), err)
		}
		m.recipients[id] = records
	}
	return m
}

// Every index of a random log shows, later and after a restart, what it showed
// when it was the latest.
func TestThePastIsAsItWas(t *testing.T) {
	race.Sequential(t)
	compared := 0
	for seed := range uint64(roundsOf(t, "HOLDFAST_PAST_ROUNDS", 8)) {
		script := newScript(t, rand.New(rand.NewPCG(seed, 7)).IntN)
		disk := vfs.NewMem()
		state := mustOpen(t, crashDir, disk)
		fold(t, state, script.setup()...)
		var moments []moment
		for range 120 {
			fold(t, state, script.entry())
			moments = append(moments, withView(t, state, func(v *View) moment { return momentOf(t, v, script.ids) }))
		}
		checkState(t, state)
		if err := state.Close(); err != nil {
			t.Fatal(err)
		}
		state = mustOpen(t, crashDir, disk)
		for _, want := range moments {
			got := withView(t, state, func(v *View) moment {
				err := v.Rewind(want.index)
				if errors.Is(err, ErrForgotten) && want.index < v.Forgotten() {
					compared--
					return want
				}
				if err != nil {
					t.Fatalf("rewind to %d: %v", want.index, err)
				}
				return momentOf(t, v, script.ids)
			})
			compared++
			compareMoments(t, got, want, withView(t, state, existing))
		}
		if err := state.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if compared < 100 {
		t.Errorf("only %d moments compared: the rest was pruned", compared)
	}
}

func withView[T any](t *testing.T, s *State, read func(*View) T) T {
	t.Helper()
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	return read(v)
}

// existing reports which messages weren't taken back since.
func existing(v *View) map[relay.MessageID]bool {
	found := make(map[relay.MessageID]bool)
	for cursor := []byte(nil); ; {
		ids, next, err := v.Log(Filter{}, cursor, 100)
		if err != nil {
			return nil
		}
		for _, id := range ids {
			found[id] = true
		}
		if cursor = next; cursor == nil {
			return found
		}
	}
}

func compareMoments(t *testing.T, got, want moment, exists map[relay.MessageID]bool) {
	t.Helper()
	takenBack := func(id relay.MessageID, _ bool) bool { return !exists[id] }
	maps.DeleteFunc(want.queue, takenBack)
	if !maps.Equal(got.queue, want.queue) {
		t.Errorf("index %d: queue of %d, was %d", want.index, len(got.queue), len(want.queue))
	}
	for id, records := range want.recipients {
		if !exists[id] {
			continue
		}
		if !slices.EqualFunc(got.recipients[id], records, func(x, y *pb.RecipientRecord) bool { return proto.Equal(x, y) }) {
			t.Errorf("index %d: %s has %v, had %v", want.index, id, got.recipients[id], records)
		}
	}
	for id := range got.recipients {
		if want.recipients[id] == nil {
			t.Errorf("index %d: %s wasn't there", want.index, id)
		}
	}
	sameRecords(t, "domains", list(got.tables.domains), list(want.tables.domains))
	sameRecords(t, "destinations", list(got.tables.destinations), list(want.tables.destinations))
	sameRecords(t, "nodes", list(got.tables.nodes), list(want.tables.nodes))
	if !slices.Equal(got.tables.eligible, want.tables.eligible) {
		t.Errorf("index %d: eligible %v, were %v", want.index, got.tables.eligible, want.tables.eligible)
	}
}

func TestTimesAndIndexes(t *testing.T) {
	w := newWorld(t)
	begin := w.now
	w.up("a", 1, 0)
	w.configure(1)
	indexes := map[int]uint64{0: w.index} // the last of each second
	for second := 2; second < 20; second += 3 {
		w.now = begin.Add(time.Duration(second)*time.Second + 300*time.Millisecond)
		w.accept(1, "one@example.test")
		w.now = w.now.Add(-time.Second) // a proposer whose clock is behind
		w.accept(1, "one@example.test")
		indexes[second] = w.index
	}
	v := w.view()
	var last uint64
	for second := range 25 {
		// All that came before the second.
		got, err := v.IndexAt(begin.Add(time.Duration(second) * time.Second))
		if err != nil && second > 0 {
			t.Fatalf("second %d: %v", second, err)
		}
		if second > 0 && got != last {
			t.Errorf("second %d is index %d, want %d", second, got, last)
		}
		if index, ok := indexes[second]; ok {
			last = index
			if at, err := v.TimeOf(index); err != nil || !at.Equal(begin.Add(time.Duration(second)*time.Second)) {
				t.Errorf("index %d is of %v, %v; want second %d", index, at, err, second)
			}
		}
	}
	if _, err := v.IndexAt(begin.Add(-time.Hour)); !errors.Is(err, ErrForgotten) {
		t.Errorf("before the first event: %v", err)
	}
	if err := v.Rewind(w.index + 1); !errors.Is(err, ErrFuture) {
		t.Errorf("rewound to the future: %v", err)
	}
}

// The feed has each row of history once, in the order of the log, wherever a
// reader begins and however much it reads at a time.
func TestFollow(t *testing.T) {
	script := newScript(t, rand.New(rand.NewPCG(3, 3)).IntN)
	state := openState(t, crashDir, vfs.NewMem())
	fold(t, state, script.setup()...)
	for range 150 {
		fold(t, state, script.entry())
	}
	v, err := state.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	want := make(map[Position]relay.MessageID)
	for id := range existing(v) {
		rows, err := v.History(id, Position{}, math.MaxInt)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.Index >= v.Forgotten() {
				want[row.Position] = id
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(want), func(a, b Position) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	for _, limit := range []int{1, 3, 1000} {
		for _, begin := range []int{0, 1, len(order) / 2, len(order) - 1} {
			at := order[begin]
			for _, expected := range order[begin:] {
				rows, next, err := v.Follow(at, limit)
				for len(rows) == 0 && err == nil && next.Index <= v.Index() {
					rows, next, err = v.Follow(next, limit)
				}
				if err != nil || len(rows) == 0 {
					t.Fatalf("from %v: %d rows, %v", at, len(rows), err)
				}
				if rows[0].Position != expected || rows[0].ID != want[expected] {
					t.Fatalf("from %v: row %v of %s, want %v of %s", at, rows[0].Position, rows[0].ID, expected, want[expected])
				}
				at = expected.Behind()
			}
		}
	}
	if rows, next, err := v.Follow(Position{Index: v.Index() + 5, Row: 2}, 10); len(rows) != 0 || err != nil || next != (Position{Index: v.Index() + 5, Row: 2}) {
		t.Errorf("from the future: %v %v %v", rows, next, err)
	}
}
