package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// disturbBulk proposes pieces until the operation is finished. Before each is
// proposed, something else comes into the log.
func (w *world) disturbBulk(id relay.MessageID, size int, meanwhile func()) (record *pb.BulkRecord, pieces []*pb.BulkProgressed) {
	w.t.Helper()
	for range 1000 {
		v, err := w.state.View()
		if err != nil {
			w.t.Fatal(err)
		}
		if record, err = v.Bulk(id); err != nil {
			w.t.Fatal(err)
		}
		piece, err := v.BulkPiece(Bulk{ID: id, Record: record}, size)
		if err := errorOf(err, v.Close()); err != nil {
			w.t.Fatal(err)
		}
		if record.FinishedAt != 0 {
			checkState(w.t, w.state)
			return record, pieces
		}
		meanwhile()
		w.must(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: piece}}, nil)
		pieces = append(pieces, piece)
	}
	w.t.Fatal("it doesn't end")
	return nil, nil
}

// handOver delivers a recipient, if it can be tried.
func (w *world) handOver(id relay.MessageID, number uint32) {
	w.attempts++
	event := claimOf(w.attempts, id, number)
	event.GetAttemptStarted().Claims[0].Destination = w.recipientOf(id, number).Destination
	if w.fold(1, event, nil).Code == codeOK {
		w.must(1, delivered(ref(1, w.attempts), id, number), nil)
	}
}

// The rows of a message's recipients lie apart, and any of them may go while an
// operation is under way: what it hits of the others doesn't depend on it.
func TestBulkMeetsAMessageAtAnyOfItsRows(t *testing.T) {
	deleteUntil := func(minutes int) *pb.Operation {
		return &pb.Operation{Kind: pb.Operation_KIND_DELETE, UndoFor: int64(time.Duration(minutes) * time.Minute)}
	}
	nothing := func(*world, relay.MessageID, relay.MessageID) {}
	deliver := func(w *world, id relay.MessageID) { w.handOver(id, 0) }
	for name, tt := range map[string]struct {
		op     *pb.Operation
		states []pb.RecipientState
		first  string                                          // the recipient with number 0, whose row comes last
		before func(w *world, filler, message relay.MessageID) // of example.test
		ends   func(*world, relay.MessageID)
		want   pb.RecipientState
	}{
		"the first is delivered": {opDelete, nil, "z@other.test", nothing, deliver, deletedSt},
		"the first is held":      {opDelete, []pb.RecipientState{pending}, "z@other.test", nothing, func(w *world, id relay.MessageID) { w.fold(1, operated(opHold, id, 0), nil) }, deletedSt},
		"the first, in the same domain": {opDelete, nil, "z@example.test", func(w *world, _, message relay.MessageID) {
			w.must(1, operated(opHold, message, 1), nil)
		}, deliver, deletedSt},
		"the first comes back": {opUndelete, []pb.RecipientState{deletedSt}, "z@example.test", func(w *world, filler, message relay.MessageID) {
			w.must(1, operated(deleteUntil(1), message, 1), nil)
			w.must(1, operated(deleteUntil(2), filler, 0), nil)
			w.must(1, operated(deleteUntil(3), message, 0), nil)
		}, func(w *world, id relay.MessageID) { w.fold(1, operated(opUndelete, id, 0), nil) }, pending},
	} {
		for _, size := range []int{1, 2} {
			t.Run(fmt.Sprint(name, ", pieces of ", size), func(t *testing.T) {
				w := operatorWorld(t)
				filler := w.accept(1, "a@example.test")
				message := w.accept(1, tt.first, "a@example.test")
				more := w.accept(1, "a@example.test")
				tt.before(w, filler, message)
				if tt.op == opUndelete {
					w.must(1, operated(deleteUntil(2), more, 0), nil)
				}
				bulk := w.startBulk(Filter{States: tt.states}, tt.op, 0)
				record, _ := w.disturbBulk(bulk, size, func() { tt.ends(w, message) })
				w.wantState(message, 1, tt.want)
				if record.Messages != 3 || record.Changed != 3 {
					t.Errorf("bulk %v", record)
				}
			})
		}
	}
}

// A message whose recipients lie apart is met once, and so is one whose rows move
// ahead: a retry leaves no other trace of itself.
func TestBulkMeetsAMessageOnce(t *testing.T) {
	for _, size := range []int{1, 2, 3, 100} {
		t.Run(fmt.Sprint("pieces of ", size), func(t *testing.T) {
			w := operatorWorld(t)
			ids := []relay.MessageID{
				w.accept(1, "a@example.test", "b@other.test", "c@example.test"),
				w.accept(1, "d@example.test", "e@other.test"),
				w.accept(1, "f@example.test"),
				w.accept(1, "g@other.test", "h@example.test"),
			}
			tried := claimOf(1, ids[1], 0)
			w.must(1, tried, nil)
			other := claimOf(2, ids[1], 1)
			other.GetAttemptStarted().Claims[0].Destination = "other"
			w.must(1, other, nil)
			bulk := w.startBulk(Filter{}, opRetry, 0)
			record, pieces := w.disturbBulk(bulk, size, func() {
				// Their rows go behind those of all others in the domain.
				for _, id := range ids {
					for number := range uint32(3) {
						w.fold(1, warned(id, number), nil)
					}
				}
			})
			hit := targetsOf(pieces)
			if len(hit) != 8 || record.Messages != 3 || record.Changed != 6 || record.Refused != 2 {
				t.Errorf("it hit %v: %v", hit, record)
			}
		})
	}
}

func warned(id relay.MessageID, number uint32) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DelayWarned{DelayWarned: &pb.DelayWarned{MessageId: id[:], Recipients: []uint32{number}}}}
}

// target is a recipient of a message.
type target struct {
	id     relay.MessageID
	number uint32
}

func targetsOf(pieces []*pb.BulkProgressed) (all []target) {
	for _, piece := range pieces {
		for _, t := range piece.Targets {
			for _, number := range t.Recipients {
				all = append(all, target{relay.MessageID(t.MessageId), number})
			}
		}
	}
	return all
}

// A limit is of messages, each with all of its recipients that match, wherever their
// rows are, and the preview shows the same.
func TestBulkLimitIsOfWholeMessages(t *testing.T) {
	w := operatorWorld(t)
	apart := w.accept(1, "z@other.test", "a@example.test", "y@other.test")
	w.accept(1, "b@example.test")
	w.accept(1, "c@other.test")
	for size := 1; size <= 4; size++ {
		bulk := w.startBulk(Filter{}, opRetry, 1)
		shown := &pb.BulkRecord{Filter: &pb.BulkFilter{}, Operation: opRetry, Limit: 1, Index: w.index}
		meant := w.previewed(shown, size)
		record, pieces := w.disturbBulk(bulk, size, func() {})
		want := []target{{apart, 0}, {apart, 1}, {apart, 2}}
		if hit := targetsOf(pieces); !slices.Equal(hit, want) || !slices.Equal(meant, want) {
			t.Errorf("pieces of %d: hit %v, shown %v, want %v", size, hit, meant, want)
		}
		if record.Messages != 1 || record.Changed != 3 || shown.Messages != 1 || shown.Changed != 3 {
			t.Errorf("pieces of %d: %v, shown %v", size, record, shown)
		}
	}
	// What it keeps of operations that have ended doesn't grow.
	m, err := w.view().Message(apart)
	if err != nil || len(m.Bulks) != 1 {
		t.Errorf("the message keeps %d operations, %v", len(m.Bulks), err)
	}
}

// A message that can't be changed counts in the limit, as in the preview: behind it
// nothing is hit that nobody has seen.
func TestBulkLimitCountsWhatIsRefused(t *testing.T) {
	w := operatorWorld(t)
	tried := w.accept(1, "a@example.test")
	w.accept(1, "b@example.test")
	w.must(1, claimOf(9, tried, 0), nil)
	for size := 1; size <= 2; size++ {
		shown := &pb.BulkRecord{Filter: &pb.BulkFilter{}, Operation: opRetry, Limit: 1, Index: w.index}
		if meant := w.previewed(shown, size); len(meant) != 0 || shown.Met != 1 || shown.Messages != 0 || shown.Changed != 0 || shown.Refused != 1 ||
			!strings.HasSuffix(shown.Refusal, " is being tried right now") {
			t.Errorf("pieces of %d: shown %v: %v", size, meant, shown)
		}
		bulk := w.startBulk(Filter{}, opRetry, 1)
		record, pieces := w.disturbBulk(bulk, size, func() {})
		if hit := targetsOf(pieces); !slices.Equal(hit, []target{{tried, 0}}) || record.Met != 1 || record.Messages != 0 || record.Refused != 1 {
			t.Errorf("pieces of %d: came to %v: %v", size, hit, record)
		}
	}
}

// previewed is what an operation would hit now.
func (w *world) previewed(operation *pb.BulkRecord, size int) (all []target) {
	w.t.Helper()
	v, err := w.state.View()
	if err != nil {
		w.t.Fatal(err)
	}
	defer v.Close()
	for piece, err := range v.PreviewBulk(operation, size) {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, targetsOf([]*pb.BulkProgressed{piece})...)
	}
	return all
}
