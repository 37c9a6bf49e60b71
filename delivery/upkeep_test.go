package delivery

import (
	"testing"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// What ended goes at the end of the log's retention, by one node's word, on all
// of them; what is pending stays.
func TestPrunesTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.timing.Expire = 10 * time.Millisecond
	s := w.sink(sink.Config{Answer: rcpt(450, "later@example.test")})
	w.route("example.test", "dest", 5, s.Addr())
	done := []relay.MessageID{w.accept(testSender, "one@example.test"), w.accept(testSender, "two@example.test")}
	open := w.accept(testSender, "later@example.test", "three@example.test")
	w.runAll()
	for _, id := range done {
		w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	}
	w.awaitState(open, 1, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	w.await("the deferral", func() bool { return w.recipient(open, 0).Attempts == 1 })
	w.clock.advance(relay.DefaultSettings().LogRetention - time.Hour)
	if pruned := w.log.count(isPrune); pruned != 0 {
		t.Errorf("%d pieces pruned before the retention was over", pruned)
	}
	w.clock.advance(2 * time.Hour)
	for _, n := range w.nodes {
		w.await("the log pruned on "+n.name, func() bool {
			v, err := n.state.View()
			must(t, err)
			defer v.Close()
			ids, _, err := v.Log(fsm.Filter{To: "one@example.test"}, nil, 10)
			must(t, err)
			return len(ids) == 0
		})
		v, err := n.state.View()
		must(t, err)
		// Its own retention is over, so it was returned, but only now.
		if _, err := v.Message(open); err != nil {
			t.Errorf("the pending message on %s: %v", n.name, err)
		}
		must(t, v.Close())
	}
	proposers := map[string]bool{}
	w.log.count(func(e *pb.Event) bool {
		if isPrune(e) {
			for _, n := range w.nodes {
				if record, _ := n.state.Node(n.name); record.GetIncarnation() == e.Incarnation {
					proposers[n.name] = true
				}
			}
		}
		return false
	})
	if len(proposers) != 1 {
		t.Errorf("pruned by %v, want one node", proposers)
	}
}

func isPrune(e *pb.Event) bool { return e.GetHistoryPruned() != nil }
