package fsm

import (
	"testing"

	pb "holdfast/proto/holdfast/v1"
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
