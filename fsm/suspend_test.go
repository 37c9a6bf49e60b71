package fsm

import (
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

func suspension(name, reason string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DestinationSuspended{DestinationSuspended: &pb.DestinationSuspended{
		Name: name, By: "root", Reason: reason,
	}}}
}

func resumption(name string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DestinationResumed{DestinationResumed: &pb.DestinationResumed{Name: name, By: "root"}}}
}

// A suspended destination grants no claim, not even a probe's; what is under
// way still ends, and a change of configuration doesn't resume it.
func TestSuspension(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test", "two@example.test")
	w.must(1, claimOf(1, id, 0), nil)

	for _, c := range []struct {
		event *pb.Event
		want  pb.EventResult_Code
	}{
		{resumption("dest"), codeStale},
		{suspension("nowhere", ""), pb.EventResult_CODE_NOT_FOUND},
		{resumption("nowhere"), pb.EventResult_CODE_NOT_FOUND},
		{suspension("dest", strings.Repeat("x", MaxReason+1)), pb.EventResult_CODE_INVALID},
		{suspension("dest", "moving"), codeOK},
		{suspension("dest", "again"), codeStale},
	} {
		if r := w.fold(1, c.event, nil); r.Code != c.want {
			t.Errorf("%v: %v, want %v", c.event, r, c.want)
		}
	}
	record, _ := w.state.Destination("dest")
	if s := record.Suspended; s.GetBy() != "root" || s.GetReason() != "moving" || s.GetSince() != w.now.UnixNano() {
		t.Errorf("suspended: %v", s)
	}
	if r := w.fold(1, claimOf(2, id, 1), nil); r.Code != codeStale {
		t.Errorf("a claim: %v", r)
	}
	w.must(1, delivered(ref(1, 1), id, 0), nil)
	w.must(1, destinationFailed("dest", record.Health.Probes, w.now), nil)
	probe := claimOf(3, id, 1)
	probe.GetAttemptStarted().Claims[0].Probe = true
	if r := w.fold(1, probe, nil); r.Code != codeStale {
		t.Errorf("a probe: %v", r)
	}
	w.must(1, w.renewed(destinationSet("dest")), nil)
	checkState(t, w.state)
	if record, _ := w.state.Destination("dest"); record.Suspended == nil {
		t.Error("a change resumed it")
	}
	w.must(1, resumption("dest"), nil)
	probe.Sequence = 0
	w.must(1, probe, nil)
	checkState(t, w.state)
}

// Two changes made from the same revision: the second one is stale, whatever it
// would change, and one that is made anew holds.
func TestStaleConfiguration(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	present, _ := w.state.Destination("dest")
	slots, tls := destinationSet("dest"), destinationSet("dest")
	for _, event := range []*pb.Event{slots, tls} {
		event.GetDestinationSet().Destination.Revision = present.Config.Revision
	}
	slots.GetDestinationSet().Destination.Slots = 5
	tls.GetDestinationSet().Destination.Tls = "require"
	w.must(1, slots, nil)
	if r := w.fold(1, tls, nil); r.Code != codeStale {
		t.Errorf("the second of two changes: %v", r)
	}
	now, _ := w.state.Destination("dest")
	if now.Config.Slots != 5 || now.Config.Tls != "none" || now.Config.Revision != w.index-1 {
		t.Errorf("config: %v at index %d", now.Config, w.index)
	}
	if r := w.fold(1, domainSet("example.test", "dest"), nil); r.Code != codeStale {
		t.Errorf("a domain that exists is set as if new: %v", r)
	}
	w.must(1, w.renewed(domainSet("example.test", "dest")), nil)
	w.must(1, policySet("own", time.Hour), nil)
	if r := w.fold(1, policySet("own", 2*time.Hour), nil); r.Code != codeStale {
		t.Errorf("a policy that exists is set as if new: %v", r)
	}
	w.must(1, w.renewed(policySet("own", 2*time.Hour)), nil)
	// One that was removed meanwhile doesn't come back by a change.
	change := w.renewed(domainSet("example.test", "dest"))
	w.must(1, &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "example.test"}}}, nil)
	if r := w.fold(1, change, nil); r.Code != codeStale {
		t.Errorf("a change of a removed domain: %v", r)
	}
	checkState(t, w.state)
}
