package fsm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (w *world) startBulk(f Filter, op *pb.Operation, limit uint64) relay.MessageID {
	w.t.Helper()
	id := w.newID()
	w.must(1, &pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{
		BulkId: id[:], Filter: NewBulkFilter(f), Operation: op, Limit: limit,
	}}}, nil)
	return id
}

// carryOnBulk proposes pieces until it is finished.
func (w *world) carryOnBulk(id relay.MessageID, size int) *pb.BulkRecord {
	w.t.Helper()
	for range 1000 {
		v := w.view()
		record, err := v.Bulk(id)
		if err != nil {
			w.t.Fatal(err)
		}
		if record.FinishedAt != 0 {
			checkState(w.t, w.state)
			return record
		}
		piece, err := v.BulkPiece(Bulk{ID: id, Record: record}, size)
		if err != nil {
			w.t.Fatal(err)
		}
		w.must(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: piece}}, nil)
	}
	w.t.Fatal("it doesn't end")
	return nil
}

// Each operation hits every recipient that its filter picks, once, however small
// the pieces, and nothing that came or changed after it began.
func TestBulkHitsWhatWasThere(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 100} {
		t.Run(fmt.Sprint("pieces of ", size), func(t *testing.T) {
			w := operatorWorld(t)
			var ids []relay.MessageID
			for range 5 {
				ids = append(ids, w.accept(1, "a@example.test", "b@other.test", "c@example.test", "d@example.test"))
			}
			w.must(1, operated(opHold, ids[0], 0), nil)
			bulk := w.startBulk(Filter{Domain: "example.test", States: []pb.RecipientState{pending}}, opHold, 0)
			late := w.accept(1, "a@example.test")
			w.must(1, operated(opRelease, ids[0], 0), nil) // matches now, and didn't then
			w.must(1, operated(opDelete, ids[1], 2), nil)  // did then, and doesn't now
			record := w.carryOnBulk(bulk, size)
			if record.Changed != 13 || record.Messages != 5 || record.Refused != 0 {
				t.Errorf("bulk %v", record)
			}
			w.wantState(late, 0, pending)
			w.wantState(ids[0], 0, pending)
			w.wantState(ids[1], 2, deletedSt)
			for i, id := range ids {
				w.wantState(id, 1, pending)
				w.wantState(id, 3, held)
				if i > 0 {
					w.wantState(id, 0, held)
				}
			}
		})
	}
}

func TestBulkOfEveryKind(t *testing.T) {
	redirect := &pb.Operation{Kind: pb.Operation_KIND_REDIRECT, Address: "all@other.test"}
	for _, size := range []int{1, 2, 100} {
		w := operatorWorld(t)
		for range 3 {
			w.accept(1, "a@example.test", "b@other.test", "c@example.test")
		}
		for _, step := range []struct {
			op     *pb.Operation
			states []pb.RecipientState
		}{
			{opRetry, []pb.RecipientState{pending}}, {opHold, []pb.RecipientState{pending}},
			{redirect, []pb.RecipientState{held}}, {opRelease, []pb.RecipientState{held}},
			{opDelete, []pb.RecipientState{pending}}, {opUndelete, []pb.RecipientState{deletedSt}},
			{opBounce, []pb.RecipientState{pending}},
		} {
			record := w.carryOnBulk(w.startBulk(Filter{States: step.states}, step.op, 0), size)
			if record.Changed != 9 || record.Messages != 3 {
				t.Errorf("%v in pieces of %d: %v", step.op.Kind, size, record)
			}
		}
	}
}

func TestBulkLimit(t *testing.T) {
	w := operatorWorld(t)
	for range 5 {
		w.accept(1, "a@example.test", "b@example.test")
	}
	record := w.carryOnBulk(w.startBulk(Filter{}, opHold, 2), 1)
	if record.Messages != 2 || record.Changed != 4 {
		t.Errorf("bulk %v", record)
	}
}

// Claimed ones are marked, and what doesn't fit is counted with the reason.
func TestBulkCountsWhatItCouldNot(t *testing.T) {
	w := operatorWorld(t)
	id := w.accept(1, "a@example.test", "b@example.test")
	w.must(1, claimOf(1, id, 0), nil)
	record := w.carryOnBulk(w.startBulk(Filter{}, opRetry, 0), 10)
	if record.Changed != 1 || record.Refused != 1 || record.Refusal == "" {
		t.Errorf("retry: %v", record)
	}
	record = w.carryOnBulk(w.startBulk(Filter{}, opDelete, 0), 10)
	if record.Changed != 1 || record.Waiting != 1 || record.Messages != 1 {
		t.Errorf("delete: %v", record)
	}
}

// What takes an operation by filter back reaches those too that are still being tried,
// and for which it waits: they would be held or deleted later, after all was well.
func TestBulkTakesBackWhatWaits(t *testing.T) {
	for _, tt := range []struct {
		op, undo *pb.Operation
		states   []pb.RecipientState
	}{
		{opDelete, opUndelete, []pb.RecipientState{deletedSt}}, {opHold, opRelease, []pb.RecipientState{held}},
	} {
		for _, filter := range []Filter{{}, {Domain: "example.test"}, {Destination: "dest"}} {
			for _, size := range []int{1, 2, 100} {
				w := operatorWorld(t)
				tried, other := w.accept(1, "a@example.test", "b@example.test"), w.accept(1, "c@example.test")
				w.must(1, claimOf(1, tried, 1), nil)
				if r := w.carryOnBulk(w.startBulk(filter, tt.op, 0), size); r.Changed != 2 || r.Waiting != 1 {
					t.Fatalf("%v: %v", tt.op.Kind, r)
				}
				undo := filter
				undo.States = tt.states
				preview := &pb.BulkRecord{Operation: tt.undo, Filter: NewBulkFilter(undo)}
				if got := w.previewed(preview, size); len(got) != 3 || preview.Messages != 2 {
					t.Errorf("the preview of %v has %v in %d messages", tt.undo.Kind, got, preview.Messages)
				}
				if r := w.carryOnBulk(w.startBulk(undo, tt.undo, 0), size); r.Changed != 3 || r.Messages != 2 || r.Refused != 0 {
					t.Errorf("%v in pieces of %d: %v", tt.undo.Kind, size, r)
				}
				w.must(1, deferred(ref(1, 1), tried, w.now.Add(time.Hour), 1), nil)
				w.wantState(tried, 0, pending)
				w.wantState(tried, 1, pending)
				w.wantState(other, 0, pending)
			}
		}
	}
}

// Also where the attempt ends while the operation is under way.
func TestBulkTakesBackWhatIsJustCarriedOut(t *testing.T) {
	for _, tt := range []struct {
		op, undo *pb.Operation
		states   []pb.RecipientState
	}{
		{opDelete, opUndelete, []pb.RecipientState{deletedSt}}, {opHold, opRelease, []pb.RecipientState{held}},
	} {
		w := operatorWorld(t)
		tried, elsewhere := w.accept(1, "a@example.test"), w.accept(1, "b@other.test")
		for attempt, id := range []relay.MessageID{tried, elsewhere} {
			event := claimOf(uint64(attempt+1), id, 0)
			event.GetAttemptStarted().Claims[0].Destination = w.recipientOf(id, 0).Destination
			w.must(1, event, nil)
			w.must(1, operated(tt.op, id, 0), nil)
		}
		bulk := w.startBulk(Filter{Domain: "example.test", States: tt.states}, tt.undo, 0)
		w.must(1, deferred(ref(1, 1), tried, w.now.Add(time.Hour), 0), nil)
		w.must(1, deferred(ref(1, 2), elsewhere, w.now.Add(time.Hour), 0), nil)
		w.carryOnBulk(bulk, 10)
		w.wantState(tried, 0, pending)
		if row := w.lastRow(tried); !strings.Contains(row.Text, "takes it back") {
			t.Errorf("its log ends with %v", row)
		}
		w.wantState(elsewhere, 0, tt.states[0])
	}
}

// What was ordered after an operation by filter began stays ordered, also where a piece
// was cut before it came into the log.
func TestBulkLeavesLaterOrders(t *testing.T) {
	for _, cutFirst := range []bool{false, true} {
		w := operatorWorld(t)
		id := w.accept(1, "a@example.test")
		w.must(1, claimOf(1, id, 0), nil)
		w.must(1, operated(opDelete, id, 0), nil)
		bulk := w.startBulk(Filter{States: []pb.RecipientState{deletedSt}}, opUndelete, 0)
		record, err := w.view().Bulk(bulk)
		if err != nil {
			t.Fatal(err)
		}
		piece, err := w.view().BulkPiece(Bulk{ID: bulk, Record: record}, 10)
		if err != nil || len(piece.Targets) != 1 {
			t.Fatalf("%v, %v", piece, err)
		}
		w.must(1, operated(opUndelete, id, 0), nil)
		w.must(1, operated(opDelete, id, 0), nil)
		if cutFirst {
			w.must(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: piece}}, nil)
		}
		if record := w.carryOnBulk(bulk, 10); record.Changed != 0 {
			t.Errorf("cut before it was ordered anew (%v): %v", cutFirst, record)
		}
		w.must(1, deferred(ref(1, 1), id, w.now.Add(time.Hour), 0), nil)
		w.wantState(id, 0, deletedSt)
	}
}

// Two nodes that both believe to lead: the piece of the second is stale.
func TestBulkPieceHoldsOnce(t *testing.T) {
	w := operatorWorld(t)
	w.accept(1, "a@example.test")
	w.accept(1, "a@example.test")
	id := w.startBulk(Filter{}, opHold, 0)
	record, err := w.view().Bulk(id)
	if err != nil {
		t.Fatal(err)
	}
	piece, err := w.view().BulkPiece(Bulk{ID: id, Record: record}, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.must(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: piece}}, nil)
	if r := w.fold(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: piece}}, nil); r.Code != codeStale {
		t.Errorf("the same piece once more: %v", r)
	}
	if record := w.carryOnBulk(id, 1); record.Changed != 2 {
		t.Errorf("bulk %v", record)
	}
}

// An operation hits what its filter shows, whatever times it is given: none of them
// stands for no limit, or wraps around.
func TestBulkTimes(t *testing.T) {
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		since, until time.Time
		hits         bool
	}{
		{time.Time{}, year(1970), false}, {time.Time{}, year(1600), false}, {time.Time{}, year(3000), true}, {time.Time{}, year(9999), true},
		{year(1970), time.Time{}, true}, {year(1600), time.Time{}, true}, {year(3000), time.Time{}, false}, {year(1), year(9999), true},
	} {
		w := operatorWorld(t)
		w.accept(1, "a@example.test")
		f := Filter{Since: c.since, Until: c.until}
		shown, _, err := w.view().Queue(f, nil, 10)
		if err != nil || len(shown) == 1 != c.hits {
			t.Errorf("%v: shows %v, %v", c, shown, err)
		}
		if record := w.carryOnBulk(w.startBulk(f, opHold, 0), 10); record.Changed == 1 != c.hits {
			t.Errorf("since %v until %v: hits %d", c.since, c.until, record.Changed)
		}
	}
}

// nextPiece is how far an operation is, and what its leader would propose next: one
// recipient.
func (w *world) nextPiece(id relay.MessageID) (*pb.BulkRecord, *pb.BulkProgressed) {
	w.t.Helper()
	record, err := w.view().Bulk(id)
	if err != nil {
		w.t.Fatal(err)
	}
	piece, err := w.view().BulkPiece(Bulk{ID: id, Record: record}, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	return record, piece
}

// An operation that can't be carried on ends where it stands, and says why.
func TestBulkEndsBeforeItsTime(t *testing.T) {
	w := operatorWorld(t)
	w.accept(1, "a@example.test")
	w.accept(1, "a@example.test")
	id := w.startBulk(Filter{}, opHold, 0)
	next := func() (*pb.BulkRecord, *pb.BulkProgressed) { return w.nextPiece(id) }
	_, first := next()
	w.must(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: first}}, nil)
	record, second := next()
	end := func(failure string, targets []*pb.Target) *pb.EventResult {
		return w.fold(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: &pb.BulkProgressed{
			BulkId: id[:], From: record.Cursor, FromRecipient: record.CursorRecipient, Targets: targets, Failure: failure,
		}}}, nil)
	}
	for _, r := range []*pb.EventResult{end("why", second.Targets), end(strings.Repeat("x", MaxReason+1), nil)} {
		if r.Code != pb.EventResult_CODE_INVALID {
			t.Errorf("%v", r)
		}
	}
	if r := end("row unreadable", nil); r.Code != pb.EventResult_CODE_OK {
		t.Errorf("%v", r)
	}
	if record, _ := next(); record.Failure != "row unreadable" || record.FinishedAt == 0 || record.Changed != 1 {
		t.Errorf("%v", record)
	}
	if r := w.fold(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: second}}, nil); r.Code != codeStale {
		t.Errorf("a piece after the end: %v", r)
	}
	checkState(t, w.state)
}

// An operator stops an operation wherever it stands, whatever the leader has cut
// meanwhile: what it has done stays, nothing more is done, and who and why is kept.
func TestBulkIsStopped(t *testing.T) {
	w := operatorWorld(t)
	first, second := w.accept(1, "a@example.test"), w.accept(1, "a@example.test")
	id := w.startBulk(Filter{}, opHold, 0)
	next := func() (*pb.BulkRecord, *pb.BulkProgressed) { return w.nextPiece(id) }
	stop := func(of relay.MessageID, by, reason string) *pb.EventResult {
		return w.fold(1, &pb.Event{By: by, Kind: &pb.Event_BulkStopped{BulkStopped: &pb.BulkStopped{BulkId: of[:], Reason: reason}}}, nil)
	}
	_, piece := next()
	w.must(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: piece}}, nil)
	_, piece = next()
	for want, r := range map[pb.EventResult_Code]*pb.EventResult{
		pb.EventResult_CODE_NOT_FOUND: stop(relay.MessageID{9}, "bob", ""),
		pb.EventResult_CODE_INVALID:   stop(id, "bob", strings.Repeat("x", MaxReason+1)),
	} {
		if r.Code != want {
			t.Errorf("%v, want %s", r, want)
		}
	}
	if r := stop(id, "bob", "the wrong domain"); r.Code != pb.EventResult_CODE_OK {
		t.Fatal(r)
	}
	for _, r := range []*pb.EventResult{
		w.fold(1, &pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: piece}}, nil), stop(id, "ann", "too"),
	} {
		if r.Code != codeStale {
			t.Errorf("after the end: %v", r)
		}
	}
	record, _ := next()
	if !record.Stopped || record.StoppedBy != "bob" || record.StopReason != "the wrong domain" ||
		record.FinishedAt == 0 || record.Failure != "" || record.Changed != 1 || record.Messages != 1 {
		t.Errorf("%v", record)
	}
	w.wantState(first, 0, held)
	w.wantState(second, 0, pending)
	checkState(t, w.state)
}

func TestBulksAreLimited(t *testing.T) {
	w := operatorWorld(t)
	start := func() *pb.EventResult {
		id := w.newID()
		return w.fold(1, &pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{BulkId: id[:], Operation: opHold}}}, nil)
	}
	for range maxBulks {
		if r := start(); r.Code != pb.EventResult_CODE_OK {
			t.Fatal(r)
		}
	}
	if r := start(); r.Code != pb.EventResult_CODE_IN_USE {
		t.Errorf("one too many: %v", r)
	}
	finish := func() {
		bulks, err := w.view().Bulks()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range bulks {
			if b.Record.FinishedAt == 0 {
				w.carryOnBulk(b.ID, 10)
			}
		}
	}
	for range 5 {
		finish()
		for range maxBulks {
			start()
		}
	}
	finish()
	bulks, err := w.view().Bulks()
	if err != nil || len(bulks) < keptBulks || len(bulks) > keptBulks+maxBulks {
		t.Errorf("%d bulk operations are kept, %v", len(bulks), err)
	}
}
