package delivery

import (
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// acceptMarked files a message whose recipients but the last are marked.
func (w *world) acceptMarked(to ...string) relay.MessageID {
	w.t.Helper()
	event, body := w.acceptance(testSender, "Hello.\r\n", to...)
	for _, r := range event.GetMessageAccepted().Recipients[:len(to)-1] {
		r.Spam = true
	}
	w.must(w.any(), event, body)
	return relay.MessageID(event.GetMessageAccepted().MessageId)
}

// Refused with 5xx, marked mail is dropped; what isn't marked is returned, in a
// report that says nothing of the other.
func TestMarkedMailIsDroppedOnRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	senders := w.sendersAt()
	s := w.sink(sink.Config{Answer: sink.On(sink.Dot, sink.Reply{Code: 554, Text: "spam"})})
	w.route("example.test", "dest", 2, s.Addr())
	w.runAll()
	id := w.acceptMarked("spammed@example.test", "other@example.test")
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DROPPED)
	w.awaitState(id, 1, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	w.awaitDelivered("origin", 1)
	if reports := senders.Stats().Committed; reports != 1 {
		t.Errorf("%d reports", reports)
	}
	if n := w.log.count(func(e *pb.Event) bool { return e.GetDropped() != nil }); n != 1 {
		t.Errorf("%d events drop it", n)
	}
}

// Deferred all the time, it is dropped at the shorter of policy and class.
func TestMarkedMailIsDroppedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, grey := weeks(t, "month")
		id := w.acceptMarked("spammed@example.test", "other@example.test")
		w.runAll()
		age := w.awaitEnd(id)
		if r := w.recipient(id, 0); r.State != pb.RecipientState_RECIPIENT_STATE_DROPPED || age < 5*24*time.Hour || age > 5*24*time.Hour+time.Hour {
			t.Errorf("%s at the age of %s", r.State, age)
		}
		if r := w.recipient(id, 1); r.State != pb.RecipientState_RECIPIENT_STATE_PENDING {
			t.Errorf("the recipient that isn't marked is %s", r.State)
		}
		grey.stop(w)
	})
}
