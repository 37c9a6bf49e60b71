package fsm

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/race"
)

// scripted is a state on disk, closed, with rows in every replicated family.
func scripted(t *testing.T) *vfs.MemFS {
	t.Helper()
	for seed := uint64(1); seed < 50; seed++ {
		fs := vfs.NewCrashableMem()
		state := mustOpen(t, crashDir, fs)
		script := newScript(t, rand.New(rand.NewPCG(seed, 2)).IntN)
		fold(t, state, script.setup()...)
		drill := &pb.DrillStarted{Id: "long", Fault: pb.Fault_FAULT_PAUSE, Node: "a", Duration: 1, Until: script.now.Add(time.Hour).UnixNano()}
		var lasting []scriptEvent // what no script takes away again
		for _, event := range []*pb.Event{
			settingsChanged(&pb.Settings{DrillConsent: proto.Bool(true)}), {Kind: &pb.Event_DrillStarted{DrillStarted: drill}},
			policySet("long", time.Hour), tokenSet("long", "ann", pb.Role_ROLE_VIEWER), accountSet("long", "$2a$x", 0),
			recipientsChanged("example.test", []string{"long"}, nil),
		} {
			lasting = append(lasting, script.send(script.nodes[0], event, nil))
		}
		fold(t, state, script.pack(lasting))
		full := false
		for step := 0; step < 400 && !full; step++ {
			fold(t, state, script.entry())
			full = !slices.ContainsFunc(digestsOf(t, state), func(d *pb.AppliedRecord_Digest) bool { return d.Rows == 0 })
		}
		if err := state.Close(); err != nil {
			t.Fatal(err)
		}
		if full {
			return fs
		}
	}
	t.Fatal("no script leaves rows in every family")
	return nil
}

func checkRows(t *testing.T, s *State) *pb.RowCheck {
	t.Helper()
	check, err := s.CheckRows(t.Context(), func() int64 { return 7 }, func(int, int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return check
}

// edit changes a closed state as damage on the disk would.
func edit(t *testing.T, fs vfs.FS, change func(*pebble.DB, *pebble.Batch)) {
	t.Helper()
	dir := fs.PathJoin(crashDir, generationName(1))
	db, err := pebble.Open(dir, databaseOptions(stateConfig(t, crashDir, fs)))
	if err != nil {
		t.Fatal(err)
	}
	batch := db.NewBatch()
	change(db, batch)
	err = errors.Join(batch.Commit(pebble.NoSync), db.Flush(), db.Close())
	if err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit of one row of a family: in the value's byte where a
// restart still reads the row, else in its key.
func flip(t *testing.T, db *pebble.DB, batch *pebble.Batch, f family, at int) {
	t.Helper()
	var key, value []byte
	err := scan(db, []byte{byte(f)}, func(k, v []byte) error {
		key, value = bytes.Clone(k), bytes.Clone(v)
		return errStop
	})
	if err != nil || key == nil {
		t.Fatalf("no row: %v", err)
	}
	changed := slices.Concat(key, value)
	at = len(changed) - 1 - at%(len(changed)-1) // never the family itself
	changed[at] ^= 1
	err = errors.Join(batch.Delete(key, nil), batch.Set(changed[:len(key)], changed[len(key):], nil))
	if err != nil {
		t.Fatal(err)
	}
}

// One changed byte of a row is found in its family and in no other, for every
// family and wherever in the row it is.
func TestCheckRowsFindsOneChangedByte(t *testing.T) {
	race.Sequential(t)
	pristine := scripted(t)
	for _, f := range replicated {
		t.Run(f.name, func(t *testing.T) {
			found := 0
			for at := 0; at < 40; at++ {
				fs := pristine.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
				edit(t, fs, func(db *pebble.DB, batch *pebble.Batch) { flip(t, db, batch, f.family, at) })
				state, err := Open(stateConfig(t, crashDir, fs))
				if err != nil {
					continue // a row that can't be decoded: the node refuses to start
				}
				check := checkRows(t, state)
				if err := state.Close(); err != nil {
					t.Fatal(err)
				}
				if len(check.Damages) != 1 || check.Damages[0].Family != f.name {
					t.Errorf("byte %d from the end of a row of %s: found %v", at, f.name, check.Damages)
				}
				found++
			}
			if found == 0 {
				t.Error("no change left a state that opens")
			}
		})
	}
}

func TestCheckRowsFindsALostRow(t *testing.T) {
	race.Sequential(t)
	fs := scripted(t)
	edit(t, fs, func(db *pebble.DB, batch *pebble.Batch) {
		err := scan(db, []byte{byte(famHistory)}, func(key, _ []byte) error {
			return errors.Join(batch.Delete(bytes.Clone(key), nil), errStop)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	check := checkRows(t, openState(t, crashDir, fs))
	if len(check.Damages) != 1 || check.Damages[0].Family != "history" || !strings.Contains(check.Damages[0].Text, "were written") {
		t.Errorf("found %v", check.Damages)
	}
}

func TestCheckRowsOfASoundState(t *testing.T) {
	race.Sequential(t)
	state := openState(t, crashDir, scripted(t))
	if state.RowCheck() != nil {
		t.Error("a check before the first one")
	}
	check := checkRows(t, state)
	rows := uint64(0)
	for _, d := range digestsOf(t, state) {
		rows += d.Rows
	}
	if len(check.Damages) != 0 || check.Rows != rows || check.Index != state.AppliedIndex() || check.Time != 7 {
		t.Errorf("check %v, want %d rows at %d and no damage", check, rows, state.AppliedIndex())
	}
	if kept := state.RowCheck(); kept.GetRows() != rows {
		t.Errorf("kept %v", kept)
	}
}

// What was found unreadable where it was needed is told until all rows were read.
func TestUnreadableBodyIsKnownUntilTheCheck(t *testing.T) {
	race.Sequential(t)
	state := openState(t, crashDir, scripted(t))
	id := relay.MessageID{7}
	noted := func() *pb.RowCheck {
		state.NoteUnreadable(id, ErrBody)
		return state.RowCheck()
	}
	if check := noted(); check.GetTime() != 0 || len(check.GetDamages()) != 1 || check.Damages[0].Family != "content" ||
		!strings.Contains(check.Damages[0].Text, id.String()) {
		t.Errorf("known: %v", check)
	}
	checked := checkRows(t, state)
	if known := state.RowCheck(); len(checked.Damages) != 0 || len(known.Damages) != 0 {
		t.Errorf("after a check that found nothing: %v, %v", checked, known)
	}
	if check := noted(); check.GetTime() != checked.Time || len(check.GetDamages()) != 1 {
		t.Errorf("found after the check: %v", check)
	}
}

// The state goes on while its rows are read: each family is of one index.
func TestCheckRowsWhileEntriesAreApplied(t *testing.T) {
	state := openState(t, crashDir, vfs.NewMem())
	script := newScript(t, rand.New(rand.NewPCG(3, 3)).IntN)
	fold(t, state, script.setup()...)
	for range 30 {
		fold(t, state, script.entry())
	}
	done := make(chan *pb.RowCheck)
	go func() {
		defer close(done)
		for range 20 {
			check, err := state.CheckRows(t.Context(), func() int64 { return 1 }, func(int, int) error { return nil })
			if err != nil {
				t.Error(err)
				return
			}
			done <- check
		}
	}()
	for {
		select {
		case check, more := <-done:
			if !more {
				return
			}
			if len(check.Damages) > 0 {
				t.Errorf("found %v", check.Damages)
			}
		default:
			fold(t, state, script.entry())
		}
	}
}

func TestCheckRowsEndsWithItsContextAndItsStep(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	body := bytes.Repeat([]byte("x"), MaxPiece)
	id := w.newID()
	for piece := range uint32(2 * bytesAtOnce / MaxPiece) {
		w.must(1, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
			MessageId: id[:], Piece: piece, Crc32C: crc32.Checksum(body, castagnoli),
		}}}, body)
	}
	stop := errors.New("enough")
	at := func() int64 { return 1 }
	if _, err := w.state.CheckRows(t.Context(), at, func(rows, bytes int) error {
		if rows == 0 || bytes < bytesAtOnce {
			t.Errorf("a step of %d rows, %d bytes", rows, bytes)
		}
		return stop
	}); !errors.Is(err, stop) {
		t.Errorf("stopped with %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.state.CheckRows(ended, at, func(int, int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if w.state.RowCheck() != nil {
		t.Error("a check that didn't end left a result")
	}
}
