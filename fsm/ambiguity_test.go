package fsm

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// again folds an event that was folded before, as a proposer does who doesn't
// know what came of it.
func (w *world) again(event *pb.Event, payload []byte) *pb.EventResult {
	w.t.Helper()
	applied := fold(w.t, w.state, w.entry([]*pb.Event{proto.Clone(event).(*pb.Event)}, [][]byte{payload}))
	return applied[0].Results[0]
}

func TestRepeatedEventsTakeEffectOnce(t *testing.T) {
	reopen := func(t *testing.T, w *world) {
		if err := w.state.Close(); err != nil {
			t.Fatal(err)
		}
		w.state = openState(t, crashDir, w.state.cfg.FS)
	}
	for name, disturb := range map[string]func(*testing.T, *world){
		"at once":         func(*testing.T, *world) {},
		"after a restart": reopen,
		"on a follower after an install": func(t *testing.T, w *world) {
			other := openState(t, crashDir, vfs.NewMem())
			if err := installFrom(w.state, other); err != nil {
				t.Fatal(err)
			}
			w.state = other
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := worldOf(t, openState(t, crashDir, vfs.NewMem()))
			w.configureCluster()
			w.up("a", 1, 0)
			w.configure(1)
			id := w.newID()
			events := []struct {
				event   *pb.Event
				payload []byte
				code    pb.EventResult_Code
			}{
				{accepted(id, testBody, "s@elsewhere.test", "one@example.test", "two@example.test"), testBody, codeOK},
				{claimOf(1, id, 0), nil, codeOK},
				{deferred(ref(1, 1), id, w.now, 0), nil, codeOK},
				{claimOf(2, id, 0), nil, codeOK},
				{delivered(ref(1, 2), id, 0), nil, codeOK},
				{delivered(ref(1, 2), id, 0), nil, codeOK},
				{deferred(ref(1, 2), id, w.now, 0), nil, codeStale},
				{bounced(nil, id, w.newID(), 1), testBody, codeOK},
				{destinationFailed("dest", 0, w.now), nil, codeOK},
				{domainSet("nowhere.test", "missing"), nil, pb.EventResult_CODE_NOT_FOUND},
			}
			var results []*pb.EventResult
			for _, e := range events {
				result := w.fold(1, e.event, e.payload)
				if result.Code != e.code {
					t.Fatalf("%T: %v", e.event.Kind, result)
				}
				results = append(results, result)
			}
			before := digestsOf(t, w.state)
			disturb(t, w)
			for i, e := range events {
				if result := w.again(e.event, e.payload); !proto.Equal(result, results[i]) {
					t.Errorf("%T again: %v, was %v", e.event.Kind, result, results[i])
				}
			}
			checkSameDigests(t, "after the repetition", digestsOf(t, w.state), before)
			checkState(t, w.state)
		})
	}
}

// A sequence below the lowest open one has had its outcome: its results are
// forgotten, and it never takes effect again.
func TestClosedSequencesAreStale(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	set := domainSet("example.org", "dest")
	w.must(1, set, nil)
	if rows := w.state.digests[famResults].rows; rows != 3 {
		t.Fatalf("%d rows of results for 3 events", rows)
	}
	removed := &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "example.org"}}}
	w.header(1, removed)
	removed.LowestOpen = removed.Sequence
	w.must(1, removed, nil)
	if rows := w.state.digests[famResults].rows; rows != 1 {
		t.Errorf("%d rows of results, want that of the only open sequence", rows)
	}
	if r := w.again(set, nil); r.Code != codeStale {
		t.Errorf("closed sequence: %v", r)
	}
	if _, ok := w.state.Domain("example.org"); ok {
		t.Error("a domain came back after its removal")
	}
	checkState(t, w.state)
}

func TestRepeatedSetDoesNotReviveADomain(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	set := domainSet("example.org", "dest")
	w.must(1, set, nil)
	w.must(1, &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "example.org"}}}, nil)
	if r := w.again(set, nil); r.Code != codeOK {
		t.Errorf("open sequence: %v", r)
	}
	if _, ok := w.state.Domain("example.org"); ok {
		t.Error("a domain came back after its removal")
	}
}

func TestEndedIncarnationIsRefused(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.up("b", 2, 0)
	w.configure(1)
	set := domainSet("example.org", "dest")
	w.must(2, set, nil)
	w.must(2, aborted(w.newID()), nil)
	w.down("b", 2)
	for _, event := range []*pb.Event{set, domainSet("late.test", "dest")} {
		if r := w.fold(2, event, nil); r.Code != pb.EventResult_CODE_NOT_ACTIVE {
			t.Errorf("event of an ended incarnation: %v", r)
		}
	}
	if rows := w.state.digests[famTombstones].rows; rows != 0 {
		t.Errorf("%d tombstones of an ended incarnation", rows)
	}
	if r := w.fold(0, destinationSet("x"), nil); r.Code != pb.EventResult_CODE_NOT_ACTIVE {
		t.Errorf("an operator's event without an incarnation: %v", r)
	}
	// The same process can't come back under its old number, with old sequences.
	if r := w.fold(2, nodeUp("b", 2, 2), nil); r.Code != pb.EventResult_CODE_INVALID {
		t.Errorf("incarnation 2 in place of itself: %v", r)
	}
	if r := w.fold(2, nodeUp("b", 2, 0), nil); r.Code != codeStale {
		t.Errorf("NodeUp proposed again after the node's end: %v", r)
	}
	checkState(t, w.state)
}

func nodeUp(node string, incarnation, replaces uint64) *pb.Event {
	return &pb.Event{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{Node: node, Incarnation: incarnation, Replaces: replaces}}}
}

func TestAbortBeforeTheAcceptance(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.newID()
	event := accepted(id, testBody, "s@elsewhere.test", "one@example.test")
	w.header(1, event)
	w.must(1, aborted(id), nil)
	if r := w.again(event, testBody); r.Code != pb.EventResult_CODE_ABORTED {
		t.Errorf("acceptance after its abort: %v", r)
	}
	closing := destinationSet("other")
	w.header(1, closing)
	closing.LowestOpen = closing.Sequence
	w.must(1, closing, nil)
	if rows := w.state.digests[famTombstones].rows; rows != 0 {
		t.Errorf("%d tombstones after their sequences were closed", rows)
	}
	if r := w.again(event, testBody); r.Code != codeStale {
		t.Errorf("acceptance after the tombstone went: %v", r)
	}
	checkState(t, w.state)
}

func TestAbortAfterTheAcceptance(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test", "two@example.test")
	w.must(1, operated(opRetry, id, 0), nil)
	w.must(1, operated(opDelete, id, 1), nil)
	w.must(1, aborted(id), nil)
	checkState(t, w.state)
	for _, f := range []family{famMessages, famRecipients, famContent, famQueue, famOpen, famHistory, famTombstones, famLeaving} {
		if rows := w.state.digests[f].rows; rows != 0 {
			t.Errorf("%d rows of family %q after the abort", rows, f)
		}
	}

	attempted := w.accept(1, "one@example.test", "two@example.test")
	w.must(1, claimOf(1, attempted, 0), nil)
	if r := w.fold(1, aborted(attempted), nil); r.Code != codeStale {
		t.Fatalf("abort of an attempted message: %v", r)
	}
	for n := range uint32(2) {
		if r := w.recipientOf(attempted, n); r.State != pending || r.InDoubt != 1 {
			t.Errorf("recipient %d: %v", n, r)
		}
	}
	// It ended without a claim that anybody knew of: taking it back would take
	// its body a second time.
	ended := w.accept(1, "one@example.test")
	w.must(1, delivered(nil, ended, 0), nil)
	if r := w.fold(1, aborted(ended), nil); r.Code != codeStale {
		t.Fatalf("abort of a delivered message: %v", r)
	}
	if r := w.recipientOf(ended, 0); r.State != done || r.InDoubt != 1 {
		t.Errorf("what its client sends once more isn't marked: %v", r)
	}
	if row := w.lastRow(ended); row.Kind != pb.HistoryRecord_KIND_ABORTED || len(row.Recipients) != 1 {
		t.Errorf("its log ends with %v", row)
	}
	checkState(t, w.state)
}

// An entry that raft hands over again after a restart changes nothing.
func TestAppliedEntriesAreSkipped(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	before := digestsOf(t, w.state)
	data, err := EncodeEntry([]*pb.Event{w.header(1, destinationSet("late"))}, [][]byte{nil})
	if err != nil {
		t.Fatal(err)
	}
	fold(t, w.state, &raft.Log{Index: w.index, Term: 1, Type: raft.LogCommand, Data: data})
	checkSameDigests(t, "skipped entry", digestsOf(t, w.state), before)
}
