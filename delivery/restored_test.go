package delivery

import (
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/race"
)

func target(id relay.MessageID) []*pb.Target {
	return []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}}
}

// Mail that was restored a week after its acceptance, past the retention of its
// policy: what is held stays held, unattempted and unreturned, for as long as
// nobody decides. Released it is tried once more, and returned where that fails:
// its age counts from its acceptance.
func TestRestoredAWeekLater(t *testing.T) {
	if race.Enabled {
		t.Skip("weeks of virtual time: without the race detector")
	}
	synctest.Test(t, func(t *testing.T) {
		const week = 7 * 24 * time.Hour
		w := newWorld(t, "a", "b")
		w.ctx, w.timing = t.Context(), slow
		w.timing.Idle = time.Minute
		server := &awayServer{}
		w.dial = server.dial
		w.set(&pb.DestinationConfig{
			Name: "dest", Slots: 5, Tls: string(relay.TLSNone), ProbeMax: int64(5 * time.Minute),
			Hosts: []*pb.DestinationConfig_Host{{Address: "192.0.2.1:25", Weight: 1}},
		})
		w.route("example.test", "dest", 5)
		released, left := w.accept(testSender, "one@example.test"), w.accept(testSender, "two@example.test")
		late := w.accept(testSender, "three@example.test") // restored with --deliver
		pass(week)
		hold := &pb.Operation{Kind: pb.Operation_KIND_HOLD, By: "restore", Reason: "a backup"}
		for id, hold := range map[relay.MessageID]*pb.Operation{released: hold, left: hold, late: nil} {
			w.must(0, &pb.Event{Kind: &pb.Event_Restored{Restored: &pb.Restored{Targets: target(id), Hold: hold, Text: "restored"}}}, nil)
		}
		server.back.Store(true)
		w.runAll()
		pass(24 * time.Hour)
		for _, id := range []relay.MessageID{released, left} {
			r := w.recipient(id, 0)
			if r.State != pb.RecipientState_RECIPIENT_STATE_HELD || r.Attempts != 0 || r.InDoubt != 1 || r.EndedAt != 0 {
				t.Errorf("held, and long past its time: %v", r)
			}
			for _, row := range w.history(id) {
				if row.Kind == pb.HistoryRecord_KIND_BOUNCED || row.Kind == pb.HistoryRecord_KIND_DELAY_WARNED {
					t.Errorf("its sender was told: %v", row)
				}
			}
		}
		if r := w.recipient(late, 0); r.State != pb.RecipientState_RECIPIENT_STATE_DELIVERED || server.taken.Load() != 1 {
			t.Errorf("to be delivered at once, %d arrived: %v", server.taken.Load(), r)
		}

		// Nobody is there any more: an attempt fails, and then its age counts.
		server.back.Store(false)
		pass(time.Hour) // kept connections end
		w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
			Operation: &pb.Operation{Kind: pb.Operation_KIND_RELEASE, By: "ann"}, Targets: target(released),
		}}}, nil)
		before := w.dials()
		if w.awaitEnd(released); w.recipient(released, 0).State != pb.RecipientState_RECIPIENT_STATE_BOUNCED || w.dials() == before {
			t.Errorf("released after its time, after %d attempts to connect: %v", w.dials()-before, w.recipient(released, 0))
		}
		if r := w.recipient(left, 0); r.State != pb.RecipientState_RECIPIENT_STATE_HELD {
			t.Errorf("still held: %v", r)
		}
		for _, n := range w.nodes {
			n.stop()
		}
		server.conns.Wait()
	})
}
