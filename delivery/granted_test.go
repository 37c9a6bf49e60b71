package delivery

import (
	"slices"
	"sync"
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// A recipient that an earlier claim's late word has ended while its claim waited for a
// slot is sent nothing, and the others' end holds.
func TestClaimedRecipientThatHasEnded(t *testing.T) {
	w := newWorld(t, "a")
	release := make(chan struct{})
	var mu sync.Mutex
	var asked []string
	s := w.sink(sink.Config{Offer: []string{"PIPELINING"}, Answer: func(step sink.Step) sink.Reply {
		if step.Verb != "RCPT" {
			return sink.Reply{}
		}
		mu.Lock()
		defer mu.Unlock()
		if step.Address == "first@example.test" {
			return sink.Reply{Hold: release}
		}
		asked = append(asked, step.Address)
		return sink.Reply{Code: 550, Text: "5.1.1 nobody of that name"}
	}})
	w.route("example.test", "dest", 1, s.Addr())
	w.runAll()
	first := w.accept("", "first@example.test")
	w.await("the first has the slot", func() bool { return w.claims("dest") == 1 && s.Stats().Connections == 1 })
	id := w.accept("", "gone@example.test", "left@example.test")
	w.await("the other waits for it", func() bool { return w.claims("dest") == 2 })
	w.must(w.any(), &pb.Event{Kind: &pb.Event_Delivered{Delivered: &pb.Delivered{
		Claim: &pb.ClaimRef{Incarnation: 99, Attempt: 1}, MessageId: id[:],
		Recipients: []*pb.Delivered_Recipient{{Recipient: 0, Code: 250}},
	}}}, nil)
	close(release)
	w.awaitState(first, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	w.awaitState(id, 1, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(asked, []string{"left@example.test"}) {
		t.Errorf("asked for %v", asked)
	}
	if n := w.counter("dest").Duplicates; n != 0 {
		t.Errorf("%d duplicates", n)
	}
}
