package fsm

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// A zero byte ends a name inside a key: a name with one would put its rows into
// another name's range.
func TestNamesWithAZeroByteAreRefused(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	for _, event := range []*pb.Event{
		destinationSet("dest\x00"), domainSet("example.test\x00z", "dest"),
		accepted(w.newID(), testBody, "s@example.test\x00z", "one@example.test"),
	} {
		if r := w.fold(1, event, testBody); r.Code != pb.EventResult_CODE_INVALID {
			t.Errorf("%v: %v", event, r)
		}
	}
	checkState(t, w.state)
}

func (w *world) piece(incarnation uint64, id relay.MessageID, number uint32, body string) *pb.EventResult {
	return w.fold(incarnation, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
		MessageId: id[:], Piece: number, Crc32C: crc32.Checksum([]byte(body), castagnoli),
	}}}, []byte(body))
}

// As many pieces and bytes as announced, but with a hole: the body could never
// be delivered.
func TestPiecesWithAGapAreIncomplete(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.newID()
	for _, number := range []uint32{0, 2, 5} {
		w.piece(1, id, number, "piece")
	}
	event := accepted(id, []byte("piecepiecepiece"), "s@b.test", "one@example.test")
	event.GetMessageAccepted().Content.Pieces = 3
	if r := w.fold(1, event, nil); r.Code != pb.EventResult_CODE_INCOMPLETE {
		t.Errorf("acceptance of a body with a gap: %v", r)
	}
	inline := accepted(id, testBody, "s@b.test", "one@example.test")
	if r := w.fold(1, inline, testBody); r.Code != pb.EventResult_CODE_INVALID {
		t.Errorf("acceptance with a body of its own over stored pieces: %v", r)
	}
	checkState(t, w.state)
}

// An upload that was dropped by its owner in two steps must not be waited for by
// a node that didn't restart in between: it would drop the next one later than others.
func TestSweepsDoNotDependOnRestarts(t *testing.T) {
	disk := vfs.NewMem()
	steady, restarted := worldOf(t, openState(t, crashDir, vfs.NewMem())), worldOf(t, mustOpen(t, crashDir, disk))
	both := func(do func(w *world)) {
		do(steady)
		do(restarted)
	}
	both(func(w *world) {
		w.up("a", 1, 0)
		w.up("b", 2, 0)
		w.configure(1)
		low, abandoned, high := w.newID(), w.newID(), w.newID()
		for n := range uint32(3 * sweepPieces) {
			w.piece(2, low, n, "x")
			w.piece(2, high, n, "x")
		}
		for n := range uint32(maxAbandoned + 1) {
			w.piece(1, abandoned, n, "x")
		}
		w.down("b", 2)
		for range 2 {
			w.must(1, &pb.Event{Kind: &pb.Event_ContentAbandoned{ContentAbandoned: &pb.ContentAbandoned{MessageId: abandoned[:]}}}, nil)
		}
	})
	if err := restarted.state.Close(); err != nil {
		t.Fatal(err)
	}
	restarted.state = openState(t, crashDir, disk)
	for range 8 {
		both(func(w *world) { w.must(1, w.renewed(destinationSet("other")), nil) })
		checkSameDigests(t, "after a restart", digestsOf(t, restarted.state), digestsOf(t, steady.state))
	}
	if n := steady.state.digests[famPieces].rows; n != 0 {
		t.Errorf("%d pieces left", n)
	}
	checkState(t, steady.state)
	checkState(t, restarted.state)
}

// A kind that this program doesn't know ends the node, whoever sends it; one
// that says it changes nothing doesn't.
func TestUnknownEvents(t *testing.T) {
	for _, incarnation := range []uint64{0, 1, 99} {
		var fatal []error
		cfg := stateConfig(t, crashDir, vfs.NewMem())
		cfg.Fatal = func(err error) { fatal = append(fatal, err) }
		state, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w := worldOf(t, state)
		w.up("a", 1, 0)
		w.fold(incarnation, &pb.Event{Ignorable: true}, nil)
		if len(fatal) != 0 {
			t.Fatalf("incarnation %d: an ignorable event ended the node: %v", incarnation, fatal)
		}
		index := state.AppliedIndex()
		entry := w.entry([]*pb.Event{w.header(incarnation, &pb.Event{})}, [][]byte{nil})
		if err, ok := state.Apply(entry).(error); !ok || len(fatal) != 1 {
			t.Errorf("incarnation %d: an unknown event gave %v, fatal %v", incarnation, err, fatal)
		}
		if state.AppliedIndex() != index {
			t.Error("an unknown event was applied")
		}
		if err := state.Close(); err != nil {
			t.Logf("close of a failed state: %v", err)
		}
	}
}

// An entry that can't be decoded is the same on every node, and has no effect.
func TestMalformedEntries(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	before := digestsOf(t, w.state)
	good, err := EncodeEntry([]*pb.Event{w.header(1, destinationSet("dest"))}, [][]byte{[]byte("payload")})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{nil, {0}, {0, 0, 0, 200, 1}, good[:len(good)-1], append(good[:len(good):len(good)], 1), []byte("\x00\x00\x00\x02\xff\xff")} {
		entry := w.entry(nil, nil)
		entry.Data = data
		if applied := fold(t, w.state, entry)[0]; len(applied.Results) != 0 || w.state.AppliedIndex() != entry.Index {
			t.Errorf("entry %x: %v", data, applied)
		}
	}
	checkSameDigests(t, "after malformed entries", digestsOf(t, w.state), before)
}

// Damage to the folder is told, never papered over with an empty state.
func TestDamagedFolder(t *testing.T) {
	damaged := map[string]func(fs vfs.FS) error{
		"which is missing": func(fs vfs.FS) error {
			return writeCurrent(Config{FS: fs, Dir: crashDir}, 7)
		},
		currentFile + " is missing": func(fs vfs.FS) error { return fs.Remove(crashDir + "/" + currentFile) },
		"is damaged": func(fs vfs.FS) error {
			file, err := fs.Create(crashDir+"/"+currentFile, vfs.WriteCategoryUnspecified)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(file, "gen-x")
			return errors.Join(err, file.Close())
		},
	}
	for want, damage := range damaged {
		fs := vfs.NewMem()
		if err := mustOpen(t, crashDir, fs).Close(); err != nil {
			t.Fatal(err)
		}
		if err := damage(fs); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(stateConfig(t, crashDir, fs)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("open: %v, want an error that says %q", err, want)
		}
		if _, err := fs.Stat(crashDir + "/gen-1"); err != nil {
			t.Errorf("%s: the generation is gone: %v", want, err)
		}
	}
}
