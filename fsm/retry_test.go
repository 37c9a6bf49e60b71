package fsm

import (
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func retryOf(releaseHeld bool, ids ...relay.MessageID) *pb.Event {
	e := &pb.RetryRequested{ReleaseHeld: releaseHeld}
	for _, id := range ids {
		e.MessageIds = append(e.MessageIds, id[:])
	}
	return &pb.Event{Kind: &pb.Event_RetryRequested{RetryRequested: e}}
}

// A message that outlived two deliverers is held. Only who names it takes it
// back, and then its past deaths count no more.
func TestHeldMailComesBackByName(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test")
	for death := uint64(1); death <= maxDeaths; death++ {
		w.must(death, claimOf(1, id, 0), nil)
		w.up("a", death+1, death) // revokes the claim
	}
	now := uint64(maxDeaths + 1)
	if r := w.recipientOf(id, 0); r.State != held {
		t.Fatalf("state %v after %d deaths, want held", r.State, maxDeaths)
	}
	if r := w.fold(now, retryOf(false, id), nil); r.Code != pb.EventResult_CODE_NOT_FOUND {
		t.Errorf("a retry of the whole queue: %v, want that it finds nothing", r)
	}
	w.must(now, retryOf(true, id), nil)
	checkState(t, w.state)
	if due := w.waiting("dest"); len(due) != 1 {
		t.Fatalf("waiting: %v", due)
	}
	w.must(now, claimOf(1, id, 0), nil)
	w.up("a", now+1, now)
	if r := w.recipientOf(id, 0); r.State != pending || r.InDoubt != maxDeaths+1 {
		t.Errorf("after one more death: %v", r)
	}
	checkState(t, w.state)
}
