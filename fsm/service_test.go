package fsm

import (
	"testing"

	pb "holdfast/proto/holdfast/v1"
)

func draining(node string, untilUp bool) *pb.Event {
	return &pb.Event{Kind: &pb.Event_NodeDraining{NodeDraining: &pb.NodeDraining{Node: node, UntilUp: untilUp}}}
}

func resumed(node string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_NodeResumed{NodeResumed: &pb.NodeResumed{Node: node}}}
}

func removed(node string, incarnation uint64) *pb.Event {
	return &pb.Event{Kind: &pb.Event_NodeRemoved{NodeRemoved: &pb.NodeRemoved{Node: node, Incarnation: incarnation}}}
}

func (w *world) drains(node string) bool {
	record, ok := w.state.Node(node)
	return ok && record.DrainingSince != 0
}

func TestDrainedNodeOwnsNothing(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.up("b", 2, 0)
	w.configure(1)
	owner, _ := w.state.Owner("dest")
	incarnation := map[string]uint64{"a": 1, "b": 2}
	other := map[string]string{"a": "b", "b": "a"}[owner]
	w.must(incarnation[other], draining(owner, false), nil)
	if got, _ := w.state.Owner("dest"); got != other {
		t.Errorf("the owner is %q, want %q", got, other)
	}
	w.must(incarnation[other], draining(other, false), nil)
	if got, ok := w.state.Owner("dest"); ok {
		t.Errorf("with all nodes drained the owner is %q", got)
	}
	w.must(incarnation[other], resumed(owner), nil)
	if got, _ := w.state.Owner("dest"); got != owner {
		t.Errorf("the owner is %q, want %q again", got, owner)
	}
	checkState(t, w.state)
}

// A claim made before the drain stands: its attempt goes on.
func TestDrainKeepsClaims(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test")
	w.must(1, claimOf(1, id, 0), nil)
	w.must(1, draining("a", false), nil)
	if r := w.recipientOf(id, 0); r.Claim == nil || r.InDoubt != 0 {
		t.Errorf("the claim is %v, in doubt %d times", r.Claim, r.InDoubt)
	}
	if result := w.fold(1, claimOf(2, id, 0), nil); result.Code != pb.EventResult_CODE_STALE {
		t.Errorf("a new claim of the drained node: %v", result)
	}
	w.must(1, delivered(ref(1, 1), id, 0), nil)
	checkState(t, w.state)
}

func TestDrainOutlastsARestart(t *testing.T) {
	for _, tt := range []struct {
		name  string
		until []bool
		want  bool
	}{
		{"an operator's", []bool{false}, true},
		{"a stop's", []bool{true}, false},
		{"a stop while an operator's lasts", []bool{false, true}, true},
		{"an operator's while a stop's lasts", []bool{true, false}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.up("a", 1, 0)
			for _, untilUp := range tt.until {
				w.must(1, draining("a", untilUp), nil)
			}
			w.down("a", 1)
			if !w.drains("a") {
				t.Error("the drain ended with the node")
			}
			w.up("a", 2, 1)
			if got := w.drains("a"); got != tt.want {
				t.Errorf("draining %v after the restart, want %v", got, tt.want)
			}
			checkState(t, w.state)
		})
	}
}

func TestRemovedNodeLeavesItsClaimsInDoubt(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test")
	w.must(1, claimOf(1, id, 0), nil)
	w.up("b", 2, 0)
	if result := w.fold(0, removed("a", 9), nil); result.Code != pb.EventResult_CODE_STALE {
		t.Errorf("another incarnation was removed: %v", result)
	}
	w.fold(0, removed("a", 1), nil)
	if _, ok := w.state.Node("a"); ok {
		t.Error("the node is still known")
	}
	if r := w.recipientOf(id, 0); r.Claim != nil || r.InDoubt != 1 {
		t.Errorf("the claim is %v, in doubt %d times, want none and 1", r.Claim, r.InDoubt)
	}
	if result := w.fold(1, draining("b", false), nil); result.Code != pb.EventResult_CODE_NOT_ACTIVE {
		t.Errorf("an event of the removed node: %v", result)
	}
	w.up("a", 3, 0)
	checkState(t, w.state)
}
