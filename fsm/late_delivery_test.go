package fsm

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// TestDeliveredByEndedIncarnation: a node that was declared down while the
// remote took its message tells so late. The log has it, so nobody may send the
// message again, and it counts once, though the next incarnation repeats it.
func TestDeliveredByEndedIncarnation(t *testing.T) {
	for _, taken := range []bool{false, true} {
		w := newWorld(t)
		w.up("a", 1, 0)
		w.configure(1)
		id := w.accept(1, "x@example.test")
		w.must(1, claimOf(1, id, 0), nil)
		w.up("b", 2, 0)
		w.down("a", 1)
		if taken {
			w.must(2, claimOf(1, id, 0), nil)
		}
		w.must(1, delivered(ref(1, 1), id, 0), nil)
		if got := w.recipientOf(id, 0); got.State != pb.RecipientState_RECIPIENT_STATE_DELIVERED || got.Claim != nil {
			t.Errorf("taken over %v: recipient %v", taken, got)
		}
		if r := w.fold(2, claimOf(2, id, 0), nil); r.Code != pb.EventResult_CODE_STALE {
			t.Errorf("taken over %v: a claim of a delivered recipient: %v", taken, r)
		}
		w.up("a", 3, 1)
		w.must(3, delivered(ref(1, 1), id, 0), nil)
		if n := w.view().DomainCounter("example.test"); n.Delivered != 1 || n.Duplicates != 0 {
			t.Errorf("taken over %v: counters %v", taken, n)
		}
		// Any other outcome says nothing any more.
		if r := w.fold(1, claimOf(7, id, 0), nil); r.Code != pb.EventResult_CODE_NOT_ACTIVE {
			t.Errorf("taken over %v: a claim of an ended incarnation: %v", taken, r)
		}
		w.checkConsistent()
	}
}

// deliveredAt is a delivery of the first recipient by its address after so many others.
func deliveredAt(earlier uint32, claim *pb.ClaimRef, id relay.MessageID) *pb.Event {
	event := delivered(claim, id, 0)
	event.GetDelivered().Recipients[0].Earlier = proto.Uint32(earlier)
	return event
}

// A delivery that is told late went to the address which the recipient had then. The
// one that it was redirected to meanwhile has got nothing by it: it is tried, and
// what is known of it stays as it was.
func TestLateDeliveryToAnEarlierAddress(t *testing.T) {
	redirect := &pb.Operation{Kind: pb.Operation_KIND_REDIRECT, By: "ann", Address: "Ann@example.test"}
	for name, ordered := range map[string]bool{"redirected after it was taken over": false, "ordered during the attempt": true} {
		t.Run(name, func(t *testing.T) {
			w, first, second := twoNodes(t)
			w.must(second, w.renewed(domainVerify("example.test", "dest", callout)), nil)
			w.verify("Ann", valid, selective, 47*time.Hour)
			known := w.verified("Ann")
			id, report := w.acceptFrom("boss@example.test", "x@example.test"), w.newID()
			w.must(first, claimOf(1, id, 0), nil)
			if ordered {
				w.must(second, operated(redirect, id, 0), nil)
			}
			w.down(nameOf(first), first)
			if !ordered {
				w.must(second, operated(redirect, id, 0), nil)
			}
			w.must(second, claimOf(2, id, 0), nil)

			late := deliveredAt(0, ref(first, 1), id)
			late.GetDelivered().Report = reportOf(report)
			w.must(first, late, testBody)
			w.up(nameOf(first), 7, first)
			w.must(7, deliveredAt(0, ref(first, 1), id), nil) // told twice
			r := w.wantState(id, 0, pending)
			if !proto.Equal(r.Claim, ref(second, 2)) || r.InDoubt != 1 || r.Attempts != 0 {
				t.Errorf("after the late delivery: %v", r)
			}
			if w.exists(report) {
				t.Error("the sender is told that it was relayed")
			}
			if now := w.verified("Ann"); !proto.Equal(now, known) {
				t.Errorf("it is known as %v, was %v", now, known)
			}
			kinds := w.historyKinds(id)
			row := w.lastRow(id)
			if row.Kind != pb.HistoryRecord_KIND_DELIVERED_ELSEWHERE || kinds[len(kinds)-2] == row.Kind || !strings.Contains(row.Text, "x@example.test") {
				t.Errorf("history %v, last %v", kinds, row)
			}

			w.must(second, deliveredAt(1, ref(second, 2), id), nil)
			w.wantState(id, 0, done)
			w.must(7, deliveredAt(0, ref(first, 9), id), nil)
			if c := w.view().DestinationCounter("dest"); c.Delivered != 1 || c.Duplicates != 0 {
				t.Errorf("counters %v", c)
			}
			if row := w.lastRow(id); row.Kind != pb.HistoryRecord_KIND_DELIVERED_ELSEWHERE {
				t.Errorf("a late delivery after its own: %v", row)
			}
		})
	}
}

// Redirected before its attempt, or only to another destination, a late delivery is
// the recipient's own.
func TestLateDeliveryToThePresentAddress(t *testing.T) {
	for name, redirect := range map[string]*pb.Operation{
		"another address":     {Kind: pb.Operation_KIND_REDIRECT, Address: "new@example.test"},
		"another destination": {Kind: pb.Operation_KIND_REDIRECT, Destination: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			w := operatorWorld(t)
			id := w.accept(1, "x@example.test")
			earlier := uint32(0)
			if redirect.Address != "" {
				w.must(1, operated(redirect, id, 0), nil)
				earlier = 1
			}
			w.must(1, claimOf(1, id, 0), nil)
			w.up("a", 2, 1)
			if redirect.Destination != "" {
				w.must(2, operated(redirect, id, 0), nil)
			}
			w.must(1, deliveredAt(earlier, ref(1, 1), id), nil)
			w.wantState(id, 0, done)
		})
	}
}

// Redirected there and back, or once more to where it goes, it has the address that
// took it.
func TestLateDeliveryToTheAddressItHasAgain(t *testing.T) {
	const there, back = "ann@example.test", "x@example.test"
	for name, tt := range map[string]struct {
		before, after []string
		earlier       uint32
	}{
		"there and back": {nil, []string{there, back}, 0}, "once more": {[]string{there}, []string{there}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w, first, second := twoNodes(t)
			id := w.accept(first, back)
			redirect := func(addresses []string) {
				for _, address := range addresses {
					w.must(second, operated(&pb.Operation{Kind: pb.Operation_KIND_REDIRECT, By: "ann", Address: address}, id, 0), nil)
				}
			}
			redirect(tt.before)
			w.must(first, claimOf(1, id, 0), nil)
			w.down(nameOf(first), first)
			redirect(tt.after)
			w.must(first, deliveredAt(tt.earlier, ref(first, 1), id), nil)
			w.wantState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
			w.checkConsistent()
		})
	}
}

// What an operator deletes while nobody knows that it has arrived is delivered, once that
// is known, and can't come back. At the end of its undo time it can't anyhow.
func TestLateDeliveryOfWhatWasDeleted(t *testing.T) {
	for name, purged := range map[string]bool{"it could come back": false, "it couldn't": true} {
		t.Run(name, func(t *testing.T) {
			w, first, second := twoNodes(t)
			id := w.accept(first, "x@example.test", "y@example.test")
			w.must(first, claimOf(1, id, 0), nil)
			w.down(nameOf(first), first)
			remove := &pb.Operation{Kind: pb.Operation_KIND_DELETE, By: "ann", UndoFor: int64(time.Hour)}
			w.must(second, operated(remove, id, 0), nil)
			if purged {
				w.now = w.now.Add(2 * time.Hour)
				w.must(second, &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: AddTarget(nil, id, 0)}}}, nil)
			}
			w.must(first, delivered(ref(first, 1), id, 0), nil)
			got, n := w.recipientOf(id, 0), w.view().DomainCounter("example.test")
			if purged {
				if got.State != pb.RecipientState_RECIPIENT_STATE_DELETED || n.Delivered != 0 || n.Duplicates != 1 {
					t.Errorf("recipient %v, counters %v", got, n)
				}
				w.checkConsistent()
				return
			}
			if got.State != pb.RecipientState_RECIPIENT_STATE_DELIVERED || got.UndoUntil != 0 || got.UndoState != 0 || got.Attempts != 1 ||
				n.Delivered != 1 || n.Duplicates != 0 || n.Undoable != 0 || n.Ended != 0 {
				t.Errorf("recipient %v, counters %v", got, n)
			}
			if r := w.fold(second, operated(opUndelete, id, 0), nil); r.Code == pb.EventResult_CODE_OK {
				t.Error("it has come back")
			}
			if kinds := w.historyKinds(id); kinds[len(kinds)-1] != pb.HistoryRecord_KIND_DELIVERED {
				t.Errorf("history %v", kinds)
			}
			w.must(second, delivered(ref(first, 1), id, 0), nil)
			if n := w.view().DomainCounter("example.test"); n.Duplicates != 0 {
				t.Errorf("told twice: %v", n)
			}
			w.must(second, claimOf(2, id, 1), nil)
			w.must(second, delivered(ref(second, 2), id, 1), nil)
			if rows := w.state.digests[famContent].rows; rows != 0 {
				t.Errorf("%d bodies are kept", rows)
			}
			w.checkConsistent()
		})
	}
}
