package fsm

import (
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// What is deleted can come back for as long as it was ordered to, from the deletion
// on, however long after the order that comes.
func TestGraceBeginsWithTheDeletion(t *testing.T) {
	const grace = 10 * time.Minute
	later := func(w *world) { w.now = w.now.Add(grace + 2*time.Minute) }
	start := func(w *world, op *pb.Operation) relay.MessageID {
		return w.startBulk(Filter{States: []pb.RecipientState{pending}}, op, 0)
	}
	fail := func(w *world, id relay.MessageID) {
		w.must(1, deferred(ref(1, 1), id, w.now.Add(time.Hour), 0), nil)
	}
	for name, remove := range map[string]func(*world, relay.MessageID, *pb.Operation){
		"at once": func(w *world, id relay.MessageID, op *pb.Operation) {
			w.must(1, operated(op, id, 0), nil)
		},
		"after an attempt": func(w *world, id relay.MessageID, op *pb.Operation) {
			w.must(1, claimOf(1, id, 0), nil)
			w.must(1, operated(op, id, 0), nil)
			later(w)
			fail(w, id)
		},
		"by a late piece": func(w *world, _ relay.MessageID, op *pb.Operation) {
			bulk := start(w, op)
			later(w)
			w.carryOnBulk(bulk, 10)
		},
		"by a late piece, after an attempt": func(w *world, id relay.MessageID, op *pb.Operation) {
			w.must(1, claimOf(1, id, 0), nil)
			bulk := start(w, op)
			later(w)
			w.carryOnBulk(bulk, 10)
			later(w)
			fail(w, id)
		},
	} {
		for _, given := range []time.Duration{grace, 0} {
			t.Run(name+" for "+given.String(), func(t *testing.T) {
				w := operatorWorld(t)
				id := w.accept(1, "one@example.test")
				op := &pb.Operation{Kind: pb.Operation_KIND_DELETE, By: "ann"}
				op.UndoFor = int64(given)
				remove(w, id, op)
				until, text := int64(0), ""
				if given > 0 {
					until = w.now.Add(given).UnixNano()
					text = "can be undone until " + w.now.Add(given).UTC().Format(time.RFC3339)
				}
				if r := w.wantState(id, 0, deletedSt); r.UndoUntil != until {
					t.Errorf("it can come back until %d, want %d", r.UndoUntil, until)
				}
				if row := w.wantRow(id, pb.HistoryRecord_KIND_DELETED, op); row.Text != text {
					t.Errorf("the history says %q, want %q", row.Text, text)
				}
				if over, err := w.state.UndoOver(w.now, 10); err != nil || len(over) > 0 {
					t.Errorf("%v may go already, %v", over, err)
				}
			})
		}
	}
}

// Few messages go with one event where they are long: their bodies go with them.
func TestLongMessagesGoAFewAtATime(t *testing.T) {
	w := operatorWorld(t)
	for range 3 {
		w.must(1, operated(opDelete, w.acceptInPieces(make([]byte, leavingPieces/2), 1), 0), nil)
	}
	w.now = w.now.Add(24 * time.Hour)
	for _, want := range []int{2, 1} {
		targets, err := w.state.UndoOver(w.now, 100)
		if err != nil || len(targets) != want {
			t.Fatalf("%d messages are to go with one event, want %d: %v", len(targets), want, err)
		}
		w.must(1, &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: targets}}}, nil)
	}
	checkState(t, w.state)
}
