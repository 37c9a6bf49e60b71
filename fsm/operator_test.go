package fsm

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func operatorWorld(t *testing.T) *world {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, destinationSet("other"), nil)
	w.must(1, domainSet("other.test", "other"), nil)
	return w
}

func (w *world) wantState(id relay.MessageID, number uint32, want pb.RecipientState) *pb.RecipientRecord {
	w.t.Helper()
	r := w.recipientOf(id, number)
	if r.State != want {
		w.t.Fatalf("recipient %d is %v, want %v: %v", number, r.State, want, r)
	}
	checkState(w.t, w.state)
	return r
}

// lastRow is the latest row of a message's history.
func (w *world) lastRow(id relay.MessageID) *pb.HistoryRecord {
	w.t.Helper()
	rows, err := w.view().History(id, Position{}, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return rows[len(rows)-1].Record
}

func (w *world) wantRow(id relay.MessageID, kind pb.HistoryRecord_Kind, op *pb.Operation) *pb.HistoryRecord {
	w.t.Helper()
	row := w.lastRow(id)
	if row.Kind != kind || row.By != op.By || row.Reason != op.Reason {
		w.t.Fatalf("last row %v, want %v by %s for %q", row, kind, op.By, op.Reason)
	}
	return row
}

func TestHoldAndRelease(t *testing.T) {
	w := operatorWorld(t)
	id := w.accept(1, "one@example.test", "two@example.test")
	w.must(1, operated(opHold, id, 0), nil)
	w.wantRow(id, pb.HistoryRecord_KIND_HELD, opHold)
	r := w.wantState(id, 0, held)
	if r.HeldBy.Operation.By != "ann" || r.HeldBy.At != w.now.UnixNano() {
		t.Errorf("held by %v", r.HeldBy)
	}
	if due := w.waiting("dest"); len(due) != 1 || due[0].Recipient != 1 {
		t.Errorf("waiting %v, want recipient 1 alone", due)
	}
	for name, event := range map[string]*pb.Event{
		"claim":      claimOf(1, id, 0),
		"hold":       operated(opHold, id, 0),
		"retry":      operated(opRetry, id, 0),
		"undelete":   operated(opUndelete, id, 0),
		"thaw":       operated(opThaw, id, 0),
		"no message": operated(opHold, relay.MessageID{9}, 0),
	} {
		if r := w.fold(1, event, nil); r.Code != codeStale {
			t.Errorf("%s: %v", name, r)
		}
	}
	w.now = w.now.Add(time.Minute)
	w.must(1, operated(opRelease, id, 0), nil)
	w.wantRow(id, pb.HistoryRecord_KIND_RELEASED, opRelease)
	if r := w.wantState(id, 0, pending); r.NextAttempt != w.now.UnixNano() || r.HeldBy != nil {
		t.Errorf("released: %v", r)
	}
	w.must(1, claimOf(2, id, 0), nil)
}

// A message that outlived two deliverers is held until an operator releases it,
// and then its past deaths count no more.
func TestReleaseAfterDeaths(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test")
	for death := uint64(1); death <= maxDeaths; death++ {
		w.must(death, claimOf(1, id, 0), nil)
		w.up("a", death+1, death) // revokes the claim
	}
	now := uint64(maxDeaths + 1)
	w.wantState(id, 0, held)
	w.must(now, operated(opRelease, id, 0), nil)
	w.must(now, claimOf(1, id, 0), nil)
	w.up("a", now+1, now)
	if r := w.wantState(id, 0, pending); r.InDoubt != maxDeaths+1 {
		t.Errorf("after one more death: %v", r)
	}
}

func TestDeleteAndUndelete(t *testing.T) {
	w := operatorWorld(t)
	id := w.accept(1, "one@example.test", "two@example.test")
	w.must(1, operated(opHold, id, 1), nil)
	w.must(1, operated(opDelete, id, 0, 1), nil)
	if row := w.wantRow(id, pb.HistoryRecord_KIND_DELETED, opDelete); !slices.Equal(row.Recipients, []uint32{0, 1}) {
		t.Errorf("row %v", row)
	}
	w.wantState(id, 0, deletedSt)
	if body, _, err := w.state.Body(id); err != nil {
		t.Fatalf("the body within the undo time: %v", err)
	} else if err := body.Close(); err != nil {
		t.Error(err)
	}
	ids, _, err := w.view().Queue(Filter{States: []pb.RecipientState{deletedSt}}, nil, 10)
	if err != nil || !slices.Equal(ids, []relay.MessageID{id}) {
		t.Errorf("deleted ones: %v %v", ids, err)
	}
	if ids, _, err := w.view().Queue(Filter{}, nil, 10); err != nil || len(ids) != 0 {
		t.Errorf("the queue has %v, %v", ids, err)
	}
	w.must(1, operated(opUndelete, id, 0, 1), nil)
	w.wantRow(id, pb.HistoryRecord_KIND_UNDELETED, opUndelete)
	w.wantState(id, 0, pending)
	if r := w.wantState(id, 1, held); r.HeldBy.GetOperation().GetBy() != "ann" {
		t.Errorf("it is held by %v", r.HeldBy)
	}

	w.must(1, operated(opDelete, id, 0, 1), nil)
	purge := func() *pb.Event {
		targets, err := w.state.UndoOver(w.now, 100)
		if err != nil {
			t.Fatal(err)
		}
		return &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: targets}}}
	}
	if r := w.fold(1, purge(), nil); r.Code != codeStale {
		t.Errorf("purge ahead of time: %v", r)
	}
	early := &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: []*pb.Target{{MessageId: id[:], Recipients: []uint32{0, 1}}}}}}
	if r := w.fold(1, early, nil); r.Code != codeStale {
		t.Errorf("purge of what can still come back: %v", r)
	}
	w.now = w.now.Add(time.Hour)
	w.must(1, purge(), nil)
	w.wantState(id, 0, deletedSt)
	if _, _, err := w.state.Body(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("body after the undo time: %v", err)
	}
	if r := w.fold(1, operated(opUndelete, id, 0), nil); r.Code != codeStale {
		t.Errorf("undelete after the undo time: %v", r)
	}
}

// What is deleted comes back only where it can go on.
func TestUndeleteWithoutItsDomain(t *testing.T) {
	w := operatorWorld(t)
	id := w.accept(1, "one@other.test")
	w.must(1, operated(opDelete, id, 0), nil)
	w.must(1, &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "other.test"}}}, nil)
	if r := w.fold(1, operated(opUndelete, id, 0), nil); r.Code != codeStale {
		t.Errorf("undelete: %v", r)
	}
	w.must(1, domainSet("other.test", "dest"), nil)
	w.must(1, operated(opUndelete, id, 0), nil)
	w.wantState(id, 0, pending)
}

// An operation waits for the attempt under way, whatever ends that.
func TestOperationWaitsForTheAttempt(t *testing.T) {
	ends := map[string]func(w *world, id relay.MessageID){
		"failed": func(w *world, id relay.MessageID) {
			w.must(1, deferred(ref(1, 1), id, w.now.Add(time.Hour), 0), nil)
		},
		"given back": func(w *world, id relay.MessageID) {
			w.must(1, &pb.Event{Kind: &pb.Event_ClaimsReleased{ClaimsReleased: &pb.ClaimsReleased{
				Claims: []*pb.ClaimsReleased_Claim{{Claim: ref(1, 1), MessageId: id[:], Recipients: []uint32{0}}},
			}}}, nil)
		},
		"revoked": func(w *world, _ relay.MessageID) { w.up("a", 2, 1) },
	}
	redirect := &pb.Operation{Kind: pb.Operation_KIND_REDIRECT, By: "ann", Destination: "other"}
	for name, end := range ends {
		for _, op := range []*pb.Operation{opHold, opDelete, opBounce, redirect} {
			t.Run(fmt.Sprint(op.Kind, " until it was ", name), func(t *testing.T) {
				w := operatorWorld(t)
				id := w.accept(1, "one@example.test")
				w.must(1, claimOf(1, id, 0), nil)
				if r := w.fold(1, operated(op, id, 0), nil); r.Changed != 0 || r.Waiting != 1 {
					t.Fatalf("operation during an attempt: %v", r)
				}
				w.wantRow(id, pb.HistoryRecord_KIND_ORDERED, op)
				if r := w.wantState(id, 0, pending); r.Claim == nil || r.Ordered == nil {
					t.Fatalf("during the attempt: %v", r)
				}
				end(w, id)
				want := map[pb.Operation_Kind]pb.RecipientState{
					pb.Operation_KIND_HOLD: held, pb.Operation_KIND_DELETE: deletedSt,
					pb.Operation_KIND_BOUNCE: pending, pb.Operation_KIND_REDIRECT: pending,
				}
				r := w.wantState(id, 0, want[op.Kind])
				switch op.Kind {
				case pb.Operation_KIND_BOUNCE:
					if got, err := w.state.Returning("dest", 9); err != nil || len(got) != 1 || len(w.waiting("dest")) != 0 {
						t.Errorf("to be returned %v, %v", got, err)
					}
				case pb.Operation_KIND_REDIRECT:
					if r.Destination != "other" || len(w.waiting("other")) != 1 || len(w.waiting("dest")) != 0 {
						t.Errorf("redirected: %v", r)
					}
				}
				rows, err := w.view().History(id, Position{}, 1000)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(rows, func(row HistoryRow) bool {
					return row.Record.Kind == historyKind(op.Kind) && row.Record.By == "ann"
				}) {
					t.Errorf("history %v", rows)
				}
			})
		}
	}
}

func TestAnAttemptThatEndsItHasTheLastWord(t *testing.T) {
	w := operatorWorld(t)
	id := w.accept(1, "one@example.test")
	w.must(1, claimOf(1, id, 0), nil)
	w.must(1, operated(opDelete, id, 0), nil)
	w.must(1, delivered(ref(1, 1), id, 0), nil)
	if r := w.wantState(id, 0, done); r.Ordered != nil {
		t.Errorf("delivered, and still %v", r.Ordered)
	}
}

func TestOrderIsTakenBack(t *testing.T) {
	w := operatorWorld(t)
	for attempt, pair := range [][2]*pb.Operation{{opHold, opRelease}, {opDelete, opUndelete}} {
		id := w.accept(1, "one@example.test")
		claim := ref(1, uint64(attempt+1))
		w.must(1, claimOf(claim.Attempt, id, 0), nil)
		w.must(1, operated(pair[0], id, 0), nil)
		w.must(1, operated(pair[1], id, 0), nil)
		w.must(1, deferred(claim, id, w.now.Add(time.Hour), 0), nil)
		w.wantState(id, 0, pending)
	}
}

func TestBounceWaitsForItsReport(t *testing.T) {
	w := operatorWorld(t)
	id := w.accept(1, "one@example.test")
	w.must(1, operated(opHold, id, 0), nil)
	w.must(1, operated(opBounce, id, 0), nil)
	w.wantRow(id, pb.HistoryRecord_KIND_RETURN_ORDERED, opBounce)
	w.wantState(id, 0, pending)
	if r := w.fold(1, claimOf(1, id, 0), nil); r.Code != codeStale {
		t.Errorf("claim of what is to be returned: %v", r)
	}
	event := &pb.Bounced{MessageId: id[:], Reason: pb.Bounced_REASON_RETURNED, Recipients: []*pb.Bounced_Recipient{{}}}
	w.must(1, &pb.Event{Kind: &pb.Event_Bounced{Bounced: event}}, nil)
	w.wantState(id, 0, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	w.wantRow(id, pb.HistoryRecord_KIND_BOUNCED, opBounce)

	// Taken back by a hold before the report was there.
	kept := w.accept(1, "one@example.test")
	w.must(1, operated(opBounce, kept, 0), nil)
	w.must(1, operated(opHold, kept, 0), nil)
	late := &pb.Bounced{MessageId: kept[:], Reason: pb.Bounced_REASON_RETURNED, Recipients: []*pb.Bounced_Recipient{{}}}
	if r := w.fold(1, &pb.Event{Kind: &pb.Event_Bounced{Bounced: late}}, nil); r.Code != codeStale {
		t.Errorf("bounce of what is held by now: %v", r)
	}
	w.wantState(kept, 0, held)
}

func TestRedirectToAnotherAddress(t *testing.T) {
	w := operatorWorld(t)
	id := w.accept(1, "one@example.test")
	op := &pb.Operation{Kind: pb.Operation_KIND_REDIRECT, By: "ann", Address: "New@other.test"}
	w.must(1, operated(op, id, 0), nil)
	r := w.wantState(id, 0, pending)
	if r.Recipient.Address != "New@other.test" || r.Domain != "other.test" || r.Destination != "other" ||
		r.Recipient.Orcpt != "rfc822;one@example.test" {
		t.Errorf("redirected: %v", r)
	}
	for _, to := range []string{"one@example.test", "new@other.test"} {
		if ids, _, err := w.view().Log(Filter{To: to}, nil, 9); err != nil || len(ids) != 1 {
			t.Errorf("log search for %s: %v %v", to, ids, err)
		}
	}
	for _, refused := range []*pb.Operation{
		{Kind: pb.Operation_KIND_REDIRECT, Address: "x@unknown.test"},
		{Kind: pb.Operation_KIND_REDIRECT, Destination: "nowhere"},
		{Kind: pb.Operation_KIND_REDIRECT},
		{Kind: pb.Operation_KIND_REDIRECT, Destination: "dest", Address: "one@example.test"},
		{Kind: 99},
	} {
		if r := w.fold(1, operated(refused, id, 0), nil); r.Code == pb.EventResult_CODE_OK || r.Code == codeStale {
			t.Errorf("%v: %v", refused, r)
		}
	}
}

// A report to a sender whose domain isn't configured freezes, counts under no
// name of the sender's choice, and can go every way but to its own domain.
func TestFrozenReportElsewhere(t *testing.T) {
	freeze := func(w *world) relay.MessageID {
		id, report := w.accept(1, "one@example.test"), w.newID()
		event := &pb.Bounced{
			MessageId: id[:], Reason: pb.Bounced_REASON_EXPIRED, Recipients: []*pb.Bounced_Recipient{{}},
			Report: &pb.Bounced_Report{MessageId: report[:], Content: &pb.Content{}},
		}
		w.must(1, &pb.Event{Kind: &pb.Event_Bounced{Bounced: event}}, nil)
		w.wantState(report, 0, frozenSt)
		return report
	}
	w := operatorWorld(t)
	id := freeze(w)
	if c := w.view().DomainCounter(""); c.Frozen != 1 {
		t.Errorf("counter of domains elsewhere: %v", c)
	}
	if c := w.view().DomainCounter("elsewhere.test"); c.Frozen != 0 {
		t.Errorf("counter under the sender's domain: %v", c)
	}
	if r := w.fold(1, operated(opThaw, id, 0), nil); r.Code != codeStale {
		t.Errorf("thaw without a destination: %v", r)
	}
	w.must(1, operated(&pb.Operation{Kind: pb.Operation_KIND_REDIRECT, Address: "postmaster@example.test"}, id, 0), nil)
	w.now = w.now.Add(time.Hour)
	w.must(1, operated(opThaw, id, 0), nil)
	w.wantRow(id, pb.HistoryRecord_KIND_THAWED, opThaw)
	if r := w.wantState(id, 0, pending); r.RetentionFrom != w.now.UnixNano() || len(w.waiting("dest")) != 1 {
		t.Errorf("thawed: %v", r)
	}
	if old, err := w.state.Oldest("example.test", ClassReport, w.now, 9); err != nil || len(old) != 0 {
		t.Errorf("its retention is over: %v %v", old, err)
	}

	id = freeze(w)
	w.must(1, domainSet("elsewhere.test", "other"), nil)
	w.must(1, operated(opThaw, id, 0), nil)
	w.wantState(id, 0, pending)
	if c := w.view().DomainCounter("elsewhere.test"); c.Pending != 1 {
		t.Errorf("counter once it is configured: %v", c)
	}

	w.must(1, operated(opHold, id, 0), nil)
	w.must(1, operated(opDelete, id, 0), nil)
	w.wantState(id, 0, deletedSt)
}

func TestFrozenExpires(t *testing.T) {
	w := operatorWorld(t)
	id, report := w.accept(1, "one@example.test"), w.newID()
	w.must(1, &pb.Event{Kind: &pb.Event_Bounced{Bounced: &pb.Bounced{
		MessageId: id[:], Reason: pb.Bounced_REASON_EXPIRED, Recipients: []*pb.Bounced_Recipient{{}},
		Report: &pb.Bounced_Report{MessageId: report[:], Content: &pb.Content{}},
	}}}, nil)
	frozenAt := w.now
	expire := func(before time.Time) *pb.EventResult {
		targets, err := w.state.FrozenBefore(before, 100)
		if err != nil {
			t.Fatal(err)
		}
		return w.fold(1, &pb.Event{Kind: &pb.Event_FrozenExpired{FrozenExpired: &pb.FrozenExpired{
			Targets: targets, Before: before.UnixNano(),
		}}}, nil)
	}
	if r := expire(frozenAt.Add(time.Second)); r.Code != pb.EventResult_CODE_INVALID {
		t.Errorf("expiry before the age of frozen reports is over: %v", r)
	}
	w.now = frozenAt.Add(relay.DefaultSettings().FrozenAge + time.Second)
	if r := expire(frozenAt); r.Code != codeStale {
		t.Errorf("expiry of a younger one: %v", r)
	}
	if r := expire(frozenAt.Add(time.Second)); r.Code != pb.EventResult_CODE_OK {
		t.Fatalf("expiry: %v", r)
	}
	w.wantState(report, 0, pb.RecipientState_RECIPIENT_STATE_DROPPED)
	if row := w.lastRow(report); row.Kind != pb.HistoryRecord_KIND_FROZEN_EXPIRED {
		t.Errorf("row %v", row)
	}
}
