package cluster

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// startDrill brings a drill on a node into the log, and returns where it stands.
func (n *testNode) startDrill(id, victim string, fault pb.Fault, until time.Duration) uint64 {
	t := n.w.t
	t.Helper()
	event := &pb.Event{Kind: &pb.Event_DrillStarted{DrillStarted: &pb.DrillStarted{
		Id: id, Fault: fault, Node: victim, Duration: int64(until), Until: n.cluster.Now().Add(until).UnixNano(), By: "test",
	}}}
	event.Time = n.cluster.Now().Add(-time.Second).UnixNano()
	return n.mustPropose(event)
}

func (n *testNode) mustPropose(event *pb.Event) uint64 {
	t := n.w.t
	t.Helper()
	result, index, err := n.cluster.Propose(t.Context(), event, nil)
	if err != nil || result.Code != pb.EventResult_CODE_OK {
		t.Fatalf("%T: %v %v", event.Kind, result, err)
	}
	return index
}

// A drill that is called off before its fault has begun has none: not even one
// that ends by itself minutes later.
func TestFaultCalledOff(t *testing.T) {
	w := newWorld(t, "a")
	killed := make(chan struct{}, 1)
	w.adjust = func(cfg *Config) { cfg.Faults.Kill = func() { killed <- struct{}{} } }
	n := w.nodes["a"]
	w.startAll()
	w.awaitLeased("a")
	n.mustPropose(&pb.Event{Kind: &pb.Event_SettingsChanged{SettingsChanged: &pb.SettingsChanged{Settings: &pb.Settings{DrillConsent: proto.Bool(true)}}}})
	for _, fault := range []pb.Fault{pb.Fault_FAULT_PARTITION, pb.Fault_FAULT_KILL} {
		id := fault.String()
		index := n.startDrill(id, "a", fault, time.Minute)
		asked := time.Now()
		if err := n.cluster.suffer(t.Context(), id, index); err != nil {
			t.Fatal(err)
		}
		if err := n.cluster.heal(id); err != nil {
			t.Fatal(err)
		}
		inTime := time.Since(asked) < faultDelay // else it may have begun
		<-time.After(2 * faultDelay)             // it would have begun by then
		select {
		case <-killed:
			if inTime {
				t.Errorf("%s: killed all the same", id)
			}
		default:
		}
		n.cluster.cut.mu.Lock()
		cut := n.cluster.cut.healed != nil
		n.cluster.cut.mu.Unlock()
		if cut {
			t.Errorf("%s: it is cut off all the same", id)
			n.cluster.cut.end()
		}
		n.mustPropose(&pb.Event{Kind: &pb.Event_DrillEnded{DrillEnded: &pb.DrillEnded{Id: id}}})
	}

	// An order that comes when the drill has run out, its end never told.
	index := n.startDrill("late", "a", pb.Fault_FAULT_PARTITION, time.Millisecond)
	eventually(t, "the end of the drill", func() bool { return n.cluster.Now().UnixNano() > n.drillUntil() })
	if err := n.cluster.suffer(t.Context(), "late", index); err == nil || !strings.Contains(err.Error(), "no drill late is under way") {
		t.Errorf("a fault after the end of its drill: %v", err)
	}
}

// A timer that has fired can't be stopped: what it was to begin doesn't, once it is
// called off.
func TestFaultCalledOffTooLateForItsTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s suffering
		begun := 0
		order := func() *time.Timer {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.later(func() { begun++ })
			return s.begin
		}
		pass := func(want int) {
			t.Helper()
			<-time.After(2 * faultDelay)
			synctest.Wait()
			if begun != want {
				t.Errorf("%d faults have begun, want %d", begun, want)
			}
		}
		fired := order()
		s.mu.Lock()
		s.callOff()
		s.mu.Unlock()
		fired.Reset(0) // as if it had fired just before
		pass(0)
		order()
		pass(1)
		fired.Reset(0) // beside one that was ordered meanwhile
		order()
		pass(2)
	})
}

func (n *testNode) drillUntil() int64 {
	drill, _ := n.state.Drill()
	return drill.GetUntil()
}
