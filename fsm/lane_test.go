package fsm

import (
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// lanes says how many wait in each lane of a destination.
func (w *world) lanes(destination string) (n [Lanes]int) {
	w.t.Helper()
	for lane := range Lanes {
		due, err := w.state.Waiting(destination, lane, nil, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		n[lane] = len(due)
	}
	return n
}

// A recipient is fresh until its first attempt, however that ends; a report is
// last from its beginning.
func TestLanes(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	want := func(step string, n [Lanes]int) {
		t.Helper()
		if got := w.lanes("dest"); got != n {
			t.Errorf("%s: %v wait in the lanes, want %v", step, got, n)
		}
		checkState(t, w.state)
	}
	released := func(attempt uint64, id []byte, inDoubt bool) *pb.Event {
		return &pb.Event{Kind: &pb.Event_ClaimsReleased{ClaimsReleased: &pb.ClaimsReleased{
			Claims: []*pb.ClaimsReleased_Claim{{Claim: ref(1, attempt), MessageId: id, Recipients: []uint32{0}, InDoubt: inDoubt}},
		}}}
	}
	id := w.accept(1, "one@example.test", "two@example.test")
	want("accepted", [Lanes]int{2, 0, 0})
	w.must(1, claimOf(1, id, 0), nil)
	want("claimed", [Lanes]int{1, 0, 0})
	w.must(1, released(1, id[:], false), nil)
	want("given back without an attempt", [Lanes]int{2, 0, 0})
	w.must(1, claimOf(2, id, 0), nil)
	w.must(1, released(2, id[:], true), nil)
	want("given back in doubt", [Lanes]int{1, 1, 0})
	w.must(1, claimOf(3, id, 1), nil)
	w.must(1, deferred(ref(1, 3), id, w.now.Add(time.Hour), 1), nil)
	want("deferred", [Lanes]int{0, 2, 0})

	local := w.acceptFrom("sender@example.test", "three@example.test")
	w.must(1, claimOf(4, local, 0), nil)
	w.must(1, bounced(ref(1, 4), local, w.newID(), 0), testBody)
	want("refused, with a report to a domain of ours", [Lanes]int{0, 2, 1})

	marked := w.newID()
	event := accepted(marked, testBody, "", "four@example.test")
	event.GetMessageAccepted().Recipients[0].Spam = true
	w.must(1, event, testBody)
	want("marked as spam", [Lanes]int{1, 2, 1})
	w.must(1, claimOf(5, marked, 0), nil)
	w.must(1, deferred(ref(1, 5), marked, w.now.Add(time.Hour), 0), nil)
	want("marked as spam, and deferred", [Lanes]int{0, 2, 2})
}

// What the feed tells of comes lane by lane.
func TestFeedOfLanes(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	first := w.accept(1, "one@example.test")
	w.now = w.now.Add(time.Minute)
	second := w.accept(1, "two@example.test")
	w.must(1, claimOf(1, second, 0), nil)
	w.must(1, deferred(ref(1, 1), second, w.now.Add(time.Hour), 0), nil)
	lowest := w.state.TakeChanges().Lowered["dest"]
	for lane, id := range map[Lane][16]byte{LaneFresh: first, LaneRetry: second} {
		if key := lowest[lane]; key == nil || key.lane() != lane {
			t.Errorf("lane %d: lowest key %x", lane, key)
		} else if _, got, _ := tailOf(key); got != id {
			t.Errorf("lane %d: lowest is %s", lane, got)
		}
	}
	if lowest[LaneLast] != nil {
		t.Errorf("a report came in: %x", lowest[LaneLast])
	}
}
