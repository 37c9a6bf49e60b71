package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
	"holdfast/test/harness"
)

const day = 24 * time.Hour

// What is deleted is gone once the time to undo it is over, and a report that
// nobody looks after, too; not a moment before.
func TestWhatIsDueGoes(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	early, deleted := deletedUntil(w, time.Minute), deletedUntil(w, -time.Minute)
	fresh, frozen := frozenReport(w, 1, -29*day), frozenReport(w, 2, -31*day)
	eventually(t, "both are gone", func() error {
		if size := bodySize(t, w, deleted); size != 0 {
			return fmt.Errorf("the deleted message has a body of %d bytes", size)
		}
		if state := stateOf(t, w, frozen); state != pb.RecipientState_RECIPIENT_STATE_DROPPED {
			return fmt.Errorf("the report is %v", state)
		}
		return nil
	})
	if bodySize(t, w, early) == 0 {
		t.Error("a deletion can't be undone any more, a minute early")
	}
	if state := stateOf(t, w, fresh); state != pb.RecipientState_RECIPIENT_STATE_FROZEN {
		t.Errorf("a report of 29 days is %v", state)
	}
}

// What ended goes at the end of the log's retention, piece by piece; what ended
// later, or is pending, stays.
func TestPrunesTheLog(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.LoseQuorum(admintest.ErrNoQuorum)
	const many = 600 // recipients, each with a row of history and one of the past
	var old []relay.MessageID
	for range 2 {
		old = append(old, delivered(w, 31*day, many))
	}
	young, pending := delivered(w, 29*day, 1), w.Accept(31*day, "s@x.test", "r@one.test")
	if len(w.Proposed()) != 0 {
		t.Errorf("without leading it proposed %v", w.Proposed())
	}
	w.LoseQuorum(nil)
	eventually(t, "they are pruned", func() error {
		for _, id := range old {
			if exists(t, w, id) {
				return fmt.Errorf("%s is there", id)
			}
		}
		return nil
	})
	if !exists(t, w, young) || !exists(t, w, pending) {
		t.Error("a message went that has time left, or is pending")
	}
	// 2,402 rows in pieces of at most 1,000; the messages themselves may follow theirs.
	if n := len(w.Proposed()); n < 3 || n > 4 {
		t.Errorf("pruned with %d events", n)
	}
}

// deletedUntil is a message whose deletion can be undone until a time from now.
func deletedUntil(w *admintest.World, undo time.Duration) relay.MessageID {
	id := w.Accept(time.Hour, "s@x.test", "r@one.test")
	w.FoldAs(1, -time.Hour, &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
		Operation: &pb.Operation{Kind: pb.Operation_KIND_DELETE, UndoFor: int64(time.Hour + undo)},
		Targets:   []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}},
	}}}, nil)
	return id
}

// frozenReport is a report to a sender whose domain has no destination here.
func frozenReport(w *admintest.World, number byte, at time.Duration) relay.MessageID {
	about, report := w.Accept(time.Hour, "s@x.test", "r@one.test"), relay.MessageID{number}
	w.FoldAs(1, at, &pb.Event{Kind: &pb.Event_Bounced{Bounced: &pb.Bounced{
		MessageId: about[:], Recipients: []*pb.Bounced_Recipient{{}},
		Report: &pb.Bounced_Report{MessageId: report[:], Content: &pb.Content{}},
	}}}, nil)
	return report
}

// delivered is a message that was delivered a while ago.
func delivered(w *admintest.World, ago time.Duration, recipients int) relay.MessageID {
	var to []string
	event := &pb.Delivered{}
	for n := range recipients {
		to = append(to, fmt.Sprintf("r%d@one.test", n))
		event.Recipients = append(event.Recipients, &pb.Delivered_Recipient{Recipient: uint32(n)})
	}
	id := w.Accept(ago, "s@x.test", to...)
	event.MessageId = id[:]
	w.FoldAs(1, -ago, &pb.Event{Kind: &pb.Event_Delivered{Delivered: event}}, nil)
	return id
}

func exists(t *testing.T, w *admintest.World, id relay.MessageID) bool {
	t.Helper()
	view, err := w.State.View()
	must(t, err)
	defer view.Close()
	_, err = view.Message(id)
	if err != nil && !errors.Is(err, fsm.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func stateOf(t *testing.T, w *admintest.World, id relay.MessageID) pb.RecipientState {
	t.Helper()
	view, err := w.State.View()
	must(t, err)
	defer view.Close()
	r, err := view.Recipient(id, 0)
	must(t, err)
	return r.State
}

// bodySize is 0 where the body is gone.
func bodySize(t *testing.T, w *admintest.World, id relay.MessageID) int64 {
	t.Helper()
	body, content, err := w.State.Body(id)
	if errors.Is(err, fsm.ErrNotFound) {
		return 0
	}
	must(t, err)
	must(t, body.Close())
	return int64(content.Size)
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	must(t, harness.Eventually(t.Context(), what, func(context.Context) error { return check() }))
}
