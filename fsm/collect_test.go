package fsm

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "holdfast/proto/holdfast/v1"
)

// gathered are the collector's values, by name and labels.
func gathered(t *testing.T, s *State) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector{s})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, label := range m.Label {
				name += " " + label.GetValue()
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func TestCollector(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, destinationSet("other"), nil)
	first := w.now
	one := w.accept(1, "x@example.test", "y@example.test")
	w.now = w.now.Add(time.Hour)
	two := w.accept(1, "z@example.test")
	w.must(1, claimOf(1, two, 0), nil)
	w.must(1, claimOf(2, one, 1), nil)
	w.must(1, delivered(ref(1, 2), one, 1), nil)
	w.must(1, destinationFailed("other", 0, w.now), nil)

	want := map[string]float64{
		"holdfast_queue_recipients pending":          2,
		"holdfast_queue_recipients held":             0,
		"holdfast_recipients_ended_total delivered":  1,
		"holdfast_queue_oldest_timestamp_seconds":    float64(first.Unix()),
		"holdfast_destinations up":                   1,
		"holdfast_destinations down":                 1,
		"holdfast_destination_up dest":               1,
		"holdfast_destination_up other":              0,
		"holdfast_destination_queue_recipients dest": 2,
		"holdfast_destination_claims dest":           1,
		"holdfast_destination_slots dest":            20,
		"holdfast_destinations_without_series":       0,
		"holdfast_domains":                           1,
		"holdfast_nodes active":                      1,
		"holdfast_state_rows messages":               2,
		"holdfast_state_rows recipients":             3,
	}
	got := gathered(t, w.state)
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, value)
		}
	}
	if got["holdfast_pebble_memtable_bytes"] == 0 {
		t.Error("nothing of the database")
	}
}

// A counter that falls is taken for one that began anew: what can still come back
// isn't counted as ended.
func TestEndedNeverFalls(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "x@example.test", "y@example.test")
	check := func(what string, want float64) {
		t.Helper()
		if n := gathered(t, w.state)["holdfast_recipients_ended_total failed"]; n != want {
			t.Errorf("%v have ended when %s, want %v", n, what, want)
		}
		checkState(t, w.state)
	}
	deletion := &pb.Operation{Kind: pb.Operation_KIND_DELETE, By: "ann", UndoUntil: w.now.Add(time.Minute).UnixNano()}
	w.must(1, operated(deletion, id, 0, 1), nil)
	check("both are deleted", 0)
	w.must(1, operated(&pb.Operation{Kind: pb.Operation_KIND_UNDELETE, By: "ann"}, id, 0), nil)
	check("one is back", 0)
	w.now = w.now.Add(time.Hour)
	w.must(1, &pb.Event{Kind: &pb.Event_Purged{Purged: &pb.Purged{Targets: AddTarget(nil, id, 1)}}}, nil)
	check("the other can't come back", 1)
	taken := w.accept(1, "x@example.test")
	deletion.UndoUntil = w.now.Add(time.Minute).UnixNano()
	w.must(1, operated(deletion, taken, 0), nil)
	w.must(1, &pb.Event{Kind: &pb.Event_AcceptanceAborted{AcceptanceAborted: &pb.AcceptanceAborted{MessageId: taken[:]}}}, nil)
	check("a deleted one was never accepted", 1)
}

// Beyond the cap it is the destinations with the longest queues that are shown.
func TestCollectorIsBounded(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	for i := range maxSeries + 5 {
		w.must(1, destinationSet(fmt.Sprintf("d%05d", i)), nil)
	}
	last := fmt.Sprintf("d%05d", maxSeries+4)
	w.must(1, domainSet("example.test", last), nil)
	w.accept(1, "x@example.test")
	got := gathered(t, w.state)
	if got["holdfast_destinations_without_series"] != 5 {
		t.Errorf("%v destinations have no series, want 5", got["holdfast_destinations_without_series"])
	}
	if got["holdfast_destination_queue_recipients "+last] != 1 {
		t.Error("the destination with mail isn't among those shown")
	}
	if got["holdfast_destinations up"] != maxSeries+5 {
		t.Errorf("%v destinations are up", got["holdfast_destinations up"])
	}
}

func TestOldestPending(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	if at, err := w.view().OldestPending(); at != 0 || err != nil {
		t.Errorf("an empty queue has a message of %d, %v", at, err)
	}
	first := w.now
	id := w.accept(1, "x@example.test")
	w.now = w.now.Add(time.Hour)
	w.accept(1, "y@example.test")
	if at, err := w.view().OldestPending(); at != first.UnixNano() || err != nil {
		t.Errorf("oldest %d, %v, want %d", at, err, first.UnixNano())
	}
	w.must(1, &pb.Event{Kind: &pb.Event_Delivered{Delivered: &pb.Delivered{
		MessageId: id[:], Recipients: []*pb.Delivered_Recipient{{Code: 250}},
	}}}, nil)
	if at, _ := w.view().OldestPending(); at != w.now.UnixNano() {
		t.Errorf("oldest %d after the first was delivered, want %d", at, w.now.UnixNano())
	}
}
