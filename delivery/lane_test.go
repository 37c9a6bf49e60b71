package delivery

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

func TestRoom(t *testing.T) {
	const fresh, retry, last = fsm.LaneFresh, fsm.LaneRetry, fsm.LaneLast
	for _, tt := range []struct {
		lane    fsm.Lane
		taken   perLane
		n, most int
		want    int
	}{
		{fresh, perLane{}, 20, 20, 20},
		{fresh, perLane{0, 6, 4}, 20, 20, 10},
		{fresh, perLane{15, 5, 0}, 20, 20, 0},
		{retry, perLane{}, 20, 20, 10},
		{retry, perLane{0, 6, 0}, 20, 20, 4},
		{retry, perLane{0, 6, 4}, 20, 20, 0},
		{last, perLane{0, 6, 4}, 20, 20, 0},
		{retry, perLane{18, 0, 0}, 20, 20, 2},
		{retry, perLane{20, 0, 0}, 20, 20, 0},
		{retry, perLane{}, 3, 20, 1},
		{fresh, perLane{0, 1, 0}, 3, 20, 2},
		// A single place: fresh mail finds another one, if there are more slots.
		{retry, perLane{}, 1, 20, 1},
		{retry, perLane{1, 0, 0}, 1, 20, 0},
		{fresh, perLane{0, 1, 0}, 1, 20, 1},
		{fresh, perLane{1, 1, 0}, 1, 20, 0},
		{fresh, perLane{0, 1, 0}, 1, 1, 0},
		{fresh, perLane{}, 0, 20, 0},
		{retry, perLane{}, -3, 20, 0},
	} {
		if got := room(tt.lane, tt.taken, tt.n, tt.most); got != tt.want {
			t.Errorf("lane %d beside %v in %d places, %d at most: room for %d, want %d",
				tt.lane, tt.taken, tt.n, tt.most, got, tt.want)
		}
	}
}

// Whatever comes and goes, what isn't fresh never has more than half of the
// places (or one), and fresh mail finds the rest.
func TestRoomProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "places")
		most := rapid.IntRange(n, 60).Draw(t, "slots")
		var taken perLane
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			l := fsm.Lane(rapid.IntRange(0, int(fsm.Lanes)-1).Draw(t, "lane"))
			if rapid.Bool().Draw(t, "ends") {
				taken[l] = max(0, taken[l]-1)
				continue
			}
			for range max(0, room(l, taken, n, most)) {
				taken[l]++
			}
			if late := taken.late(); late > max(1, n/2) {
				t.Fatalf("%v: %d retries in %d places", taken, late, n)
			}
			if taken.all() > most || taken.all() > max(n, 2) {
				t.Fatalf("%v: %d in %d places, %d at most", taken, taken.all(), n, most)
			}
			if most > 1 && taken[fsm.LaneFresh] == 0 && room(fsm.LaneFresh, taken, n, most) <= 0 {
				t.Fatalf("%v: the first fresh one finds no place of %d", taken, n)
			}
		}
	})
}

// isRetry tells the addresses of messages that are deferred at first.
func isRetry(step sink.Step) bool {
	return step.Verb == "RCPT" && strings.HasPrefix(step.Address, "retry")
}

// acceptDeferred files messages that the destination defers, and makes them due
// again with the answer that they are to find then.
func (w *world) acceptDeferred(n int, s *sink.Server, then func(sink.Step) sink.Reply) []relay.MessageID {
	w.t.Helper()
	s.SetAnswer(func(step sink.Step) sink.Reply {
		if isRetry(step) {
			return sink.Reply{Code: 451, Enhanced: "4.3.0", Text: "later"}
		}
		return sink.Reply{}
	})
	retry := &pb.Operated{Operation: &pb.Operation{Kind: pb.Operation_KIND_RETRY}}
	ids := make([]relay.MessageID, n)
	for i := range ids {
		ids[i] = w.accept(testSender, fmt.Sprintf("retry%d@example.test", i))
		retry.Targets = append(retry.Targets, &pb.Target{MessageId: ids[i][:], Recipients: []uint32{0}})
	}
	w.await("all are deferred", func() bool {
		return w.log.count(func(e *pb.Event) bool { return e.GetAttemptFailed() != nil }) == n
	})
	s.SetAnswer(then)
	w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: retry}}, nil)
	return ids
}

// R9: retries that hang in their slots, and hundreds that wait behind them,
// never keep fresh mail waiting, whether the destination was busy before or not.
func TestRetriesLeaveSlotsToFreshMail(t *testing.T) {
	const slots, fresh = 20, 40
	for _, tt := range []struct {
		name string
		warm int // deliveries before, which open the slots
		held int // retries that hang
	}{
		{"busy destination", 60, slots / 2},
		{"cold destination", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", "b")
			s := w.sink(sink.Config{})
			w.route("example.test", "dest", slots, s.Addr())
			w.runAll()
			w.acceptMany(tt.warm, "example.test")
			w.awaitDelivered("dest", uint64(tt.warm))
			reached, release := make(chan struct{}, 1000), make(chan struct{})
			retries := w.acceptDeferred(100, s, func(step sink.Step) sink.Reply {
				if isRetry(step) {
					reached <- struct{}{}
					return sink.Reply{Hold: release}
				}
				return sink.Reply{}
			})
			for range tt.held {
				w.receive("a retry in a slot", reached)
			}
			ids := w.acceptMany(fresh, "example.test")
			w.await("all fresh mail is delivered while the retries hang", func() bool {
				return w.counter("dest").Delivered == uint64(tt.warm+fresh)
			})
			w.checkOnce(ids, s)
			if more := len(reached); tt.warm > 0 && more > 0 {
				t.Errorf("%d retries more than half of the slots", more)
			}
			close(release)
			w.awaitDelivered("dest", uint64(tt.warm+fresh+len(retries)))
			w.checkOnce(retries, s)
			if most := s.Stats().MaxOpen; most > slots {
				t.Errorf("%d connections in %d slots", most, slots)
			}
		})
	}
}
