package fsm

import (
	"math"
	"slices"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// twoNodes has nodes a and b up, and says which incarnation owns dest.
func twoNodes(t *testing.T) (w *world, owner, other uint64) {
	w = newWorld(t)
	w.up("a", 1, 0)
	w.up("b", 2, 0)
	w.configure(1)
	if name, _ := w.state.Owner("dest"); name == "b" {
		return w, 2, 1
	}
	return w, 1, 2
}

func nameOf(incarnation uint64) string { return string(rune('a' + incarnation - 1)) }

func probeOf(attempt uint64, id relay.MessageID, recipients ...uint32) *pb.Event {
	event := claimOf(attempt, id, recipients...)
	event.GetAttemptStarted().Claims[0].Probe = true
	return event
}

func (w *world) historyKinds(id relay.MessageID) []pb.HistoryRecord_Kind {
	w.t.Helper()
	rows, err := w.view().History(id, Position{}, math.MaxInt)
	if err != nil {
		w.t.Fatal(err)
	}
	var kinds []pb.HistoryRecord_Kind
	for _, row := range rows {
		kinds = append(kinds, row.Record.Kind)
	}
	return kinds
}

func TestClaimsThatDoNotHold(t *testing.T) {
	w, owner, other := twoNodes(t)
	id := w.accept(owner, "one@example.test", "two@example.test")
	refused := func(what string, incarnation uint64, event *pb.Event) {
		t.Helper()
		if r := w.fold(incarnation, event, nil); r.Code != codeStale {
			t.Errorf("%s: %v", what, r)
		}
	}
	refused("not the owner", other, claimOf(1, id, 0))
	refused("no such message", owner, claimOf(1, relay.MessageID{9}, 0))
	refused("no such recipient", owner, claimOf(1, id, 2))
	wrong := claimOf(1, id, 0)
	wrong.GetAttemptStarted().Claims[0].Destination = "missing"
	refused("no such destination", owner, wrong)

	w.must(owner, claimOf(1, id, 0, 0), nil)
	refused("claimed already", owner, claimOf(2, id, 0))
	refused("the same attempt twice", owner, claimOf(1, id, 1))
	// What is free is granted, the rest is left out.
	w.must(owner, claimOf(3, id, 0, 1), nil)
	if grants := w.state.Claims(owner); len(grants) != 2 || !slices.Equal(grants[1].Record.Recipients, []uint32{1}) {
		t.Errorf("claims: %v", grants)
	}
	if n := w.state.ForeignClaims("dest", other); n != 2 {
		t.Errorf("%d claims of others, want 2", n)
	}
	if n := w.state.ForeignClaims("dest", owner); n != 0 {
		t.Errorf("%d claims of others, want none", n)
	}
	checkState(t, w.state)
}

func TestOneProbeWhileDown(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test", "two@example.test")
	w.must(1, destinationFailed("dest", 0, w.now.Add(time.Minute)), nil)
	if r := w.fold(1, claimOf(1, id, 0), nil); r.Code != codeStale {
		t.Errorf("claim on a down destination: %v", r)
	}
	w.must(1, probeOf(2, id, 0), nil)
	if !w.state.Claims(1)[0].Record.Probe {
		t.Error("the probe isn't marked as one")
	}
	if r := w.fold(1, probeOf(3, id, 1), nil); r.Code != codeStale {
		t.Errorf("second probe: %v", r)
	}
	w.must(1, &pb.Event{Kind: &pb.Event_DestinationRecovered{DestinationRecovered: &pb.DestinationRecovered{Name: "dest", Probes: 1}}}, nil)
	w.must(1, probeOf(4, id, 1), nil)
	if w.state.Claims(1)[1].Record.Probe {
		t.Error("a claim on an up destination counts as its probe")
	}
	checkState(t, w.state)
}

// A node's death puts its claims in doubt; the second one holds the recipient.
func TestClaimsOfDeadNodes(t *testing.T) {
	w, first, second := twoNodes(t)
	id := w.accept(first, "one@example.test")
	w.must(first, claimOf(1, id, 0), nil)

	w.term++
	event := &pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{Node: nameOf(first), Incarnation: first, Term: w.term - 1}}}
	if r := w.fold(0, event, nil); r.Code != codeStale || len(w.state.Claims(first)) != 1 {
		t.Errorf("NodeDown of an earlier term: %v", r)
	}
	w.now = w.now.Add(time.Minute)
	w.down(nameOf(first), first)
	if r := w.recipientOf(id, 0); r.State != pending || r.InDoubt != 1 || r.Deaths != 1 || r.Claim != nil || r.NextAttempt != w.now.UnixNano() {
		t.Errorf("after the first death: %v", r)
	}
	if owner, _ := w.state.Owner("dest"); owner != nameOf(second) {
		t.Errorf("the owner is %s", owner)
	}
	w.must(second, claimOf(1, id, 0), nil)
	// Another incarnation takes the dead one's place at once, and so ends it.
	w.up(nameOf(second), 9, second)
	if r := w.recipientOf(id, 0); r.State != held || r.Deaths != 2 || r.InDoubt != 2 || r.NextAttempt != 0 {
		t.Errorf("after the second death: %v", r)
	}
	if due := w.waiting("dest"); len(due) != 0 {
		t.Error("a held recipient waits")
	}
	want := []pb.HistoryRecord_Kind{pb.HistoryRecord_KIND_ACCEPTED, pb.HistoryRecord_KIND_IN_DOUBT,
		pb.HistoryRecord_KIND_IN_DOUBT, pb.HistoryRecord_KIND_HELD}
	if kinds := w.historyKinds(id); !slices.Equal(kinds, want) {
		t.Errorf("history: %v", kinds)
	}
	checkState(t, w.state)
}

func TestOutcomesAfterATakeover(t *testing.T) {
	w, first, second := twoNodes(t)
	id := w.accept(first, "one@example.test")
	w.must(first, claimOf(1, id, 0), nil)
	w.down(nameOf(first), first)
	w.must(second, claimOf(1, id, 0), nil)
	// The first node comes back and says what came of its attempt.
	w.up(nameOf(first), 7, first)
	for what, event := range map[string]*pb.Event{
		"failed":  deferred(ref(first, 1), id, w.now, 0),
		"bounced": bounced(ref(first, 1), id, w.newID(), 0),
		"frozen":  frozenEvent(ref(first, 1), id, 0),
		"released": {Kind: &pb.Event_ClaimsReleased{ClaimsReleased: &pb.ClaimsReleased{
			Claims: []*pb.ClaimsReleased_Claim{{Claim: ref(first, 1), MessageId: id[:], Recipients: []uint32{0}}},
		}}},
	} {
		if r := w.fold(7, event, testBody); r.Code != codeStale {
			t.Errorf("%s: %v", what, r)
		}
	}
	if !w.state.HoldsClaim(ref(second, 1)) {
		t.Fatal("the present claim is gone")
	}
	w.must(7, delivered(ref(first, 1), id, 0), nil)
	if r := w.recipientOf(id, 0); r.State != done || w.state.HoldsClaim(ref(second, 1)) {
		t.Errorf("delivered by the first: %v", r)
	}
	w.must(7, delivered(ref(first, 1), id, 0), nil) // told twice
	if c := w.view().DestinationCounter("dest"); c.Duplicates != 0 {
		t.Errorf("%d duplicates of one delivery told twice", c.Duplicates)
	}
	w.must(second, delivered(ref(second, 1), id, 0), nil)
	if c := w.view().DomainCounter("example.test"); c.Duplicates != 1 || c.Delivered != 1 {
		t.Errorf("counters after a second delivery: %v", c)
	}
	want := []pb.HistoryRecord_Kind{pb.HistoryRecord_KIND_ACCEPTED, pb.HistoryRecord_KIND_IN_DOUBT,
		pb.HistoryRecord_KIND_DELIVERED, pb.HistoryRecord_KIND_DUPLICATE}
	if kinds := w.historyKinds(id); !slices.Equal(kinds, want) {
		t.Errorf("history: %v", kinds)
	}
	checkState(t, w.state)
}

func TestClaimsReleased(t *testing.T) {
	for _, doubt := range []bool{false, true} {
		w := newWorld(t)
		w.up("a", 1, 0)
		w.configure(1)
		id := w.accept(1, "one@example.test", "two@example.test")
		w.must(1, claimOf(1, id, 0, 1), nil)
		w.now = w.now.Add(time.Second)
		w.must(1, &pb.Event{Kind: &pb.Event_ClaimsReleased{ClaimsReleased: &pb.ClaimsReleased{
			Claims: []*pb.ClaimsReleased_Claim{{Claim: ref(1, 1), MessageId: id[:], Recipients: []uint32{0, 0}, InDoubt: doubt}},
		}}}, nil)
		r := w.recipientOf(id, 0)
		if r.Claim != nil || r.Attempts != 0 || (r.InDoubt == 1) != doubt || r.NextAttempt != w.now.UnixNano() {
			t.Errorf("released, in doubt %t: %v", doubt, r)
		}
		if r := w.recipientOf(id, 1); r.Claim == nil {
			t.Error("the claim's other recipient is released too")
		}
		checkState(t, w.state)
	}
}

// An outage: one node's failure moves the ownership, a second node's makes the
// destination down, and the node that gets through keeps it.
func TestBreaker(t *testing.T) {
	w := newWorld(t)
	for i, name := range []string{"a", "b", "c"} {
		w.up(name, uint64(i+1), 0)
	}
	w.configure(1)
	incarnation := map[string]uint64{"a": 1, "b": 2, "c": 3}
	owners := []string{}
	fail := func(probes uint64) {
		t.Helper()
		owner, _ := w.state.Owner("dest")
		owners = append(owners, owner)
		for name, n := range incarnation {
			if name != owner {
				if r := w.fold(n, destinationFailed("dest", probes, w.now.Add(time.Minute)), nil); r.Code != codeStale {
					t.Errorf("failure seen by %s, which isn't the owner: %v", name, r)
				}
			}
		}
		if r := w.fold(incarnation[owner], destinationFailed("dest", probes+1, w.now), nil); r.Code != codeStale {
			t.Errorf("answer to a probe that isn't due: %v", r)
		}
		w.must(incarnation[owner], destinationFailed("dest", probes, w.now.Add(time.Minute)), nil)
	}
	health := func() *pb.DestinationHealth {
		d, _ := w.state.Destination("dest")
		return d.Health
	}
	fail(0)
	if h := health(); h.State != pb.DestinationHealth_STATE_SUSPECT || h.FirstNode != owners[0] || h.NextProbe != w.now.UnixNano() {
		t.Errorf("after one failure: %v", h)
	}
	fail(1)
	if h := health(); h.State != pb.DestinationHealth_STATE_DOWN || h.Failed != 2 || h.NextProbe != w.now.Add(time.Minute).UnixNano() {
		t.Errorf("after the second node's: %v", h)
	}
	fail(2)
	if slices.Sort(owners); !slices.Equal(owners, []string{"a", "b", "c"}) {
		t.Errorf("probes by %v, want each node in turn", owners)
	}
	w.must(1, &pb.Event{Kind: &pb.Event_RetryRequested{RetryRequested: &pb.RetryRequested{Destination: "dest"}}}, nil)
	if h := health(); h.NextProbe != w.now.UnixNano() {
		t.Errorf("the operator's probe is not due: %v", h)
	}
	before, _ := w.state.Owner("dest")
	recovered := func(probes uint64) *pb.EventResult {
		return w.fold(incarnation[before], &pb.Event{Kind: &pb.Event_DestinationRecovered{DestinationRecovered: &pb.DestinationRecovered{
			Name: "dest", Probes: probes,
		}}}, nil)
	}
	if r := recovered(2); r.Code != codeStale {
		t.Errorf("recovery by an earlier probe: %v", r)
	}
	if r := recovered(3); r.Code != codeOK {
		t.Errorf("recovery: %v", r)
	}
	if after, _ := w.state.Owner("dest"); after != before || health().State != pb.DestinationHealth_STATE_UP {
		t.Errorf("owner %s after the recovery, was %s: %v", after, before, health())
	}
	if r := recovered(4); r.Code != codeStale {
		t.Errorf("recovery of what is up: %v", r)
	}
	checkState(t, w.state)
}

// Who asks for a probe, or gives other hosts, has mended something: the probes after
// it come close to each other again.
func TestProbesBeginAnew(t *testing.T) {
	retry := &pb.Event{Kind: &pb.Event_RetryRequested{RetryRequested: &pb.RetryRequested{Destination: "dest"}}}
	moved := destinationSet("dest")
	moved.GetDestinationSet().Destination.Hosts[0].Address = "127.0.0.1:2525"
	for name, tt := range map[string]struct {
		what   func(w *world, id relay.MessageID) *pb.Event
		failed uint32
	}{
		"destination retry": {func(*world, relay.MessageID) *pb.Event { return retry }, 1},
		"other hosts":       {func(w *world, _ relay.MessageID) *pb.Event { return w.renewed(moved) }, 1},
		"the same hosts":    {func(w *world, _ relay.MessageID) *pb.Event { return w.renewed(destinationSet("dest")) }, 4},
		"queue retry": {func(_ *world, id relay.MessageID) *pb.Event {
			return operated(&pb.Operation{Kind: pb.Operation_KIND_RETRY, By: "root"}, id, 0)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.up("a", 1, 0)
			w.configure(1)
			id := w.accept(1, "x@example.test")
			for probes := range uint64(4) {
				w.must(1, destinationFailed("dest", probes, w.now), nil) // each is due already
			}
			w.must(1, tt.what(w, id), nil)
			d, _ := w.state.Destination("dest")
			if h := d.Health; h.Failed != tt.failed || h.NextProbe != w.now.UnixNano() || h.State != pb.DestinationHealth_STATE_DOWN {
				t.Errorf("health: %v, want %d failed", h, tt.failed)
			}
		})
	}
}

func TestSoleNodeNeedsNoSecondOpinion(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, destinationFailed("dest", 0, w.now.Add(time.Minute)), nil)
	if d, _ := w.state.Destination("dest"); d.Health.State != pb.DestinationHealth_STATE_DOWN {
		t.Errorf("health: %v", d.Health)
	}
}

func TestEligibility(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.up("b", 2, 0)
	eligible := func(want ...string) {
		t.Helper()
		if got := w.state.published().eligible; !slices.Equal(got, want) {
			t.Errorf("eligible: %v, want %v", got, want)
		}
	}
	eligible("a", "b")
	w.down("b", 2)
	eligible("a")
	w.up("b", 3, 2)
	eligible("a") // it earns its destinations by staying
	nodeEligible := func(incarnation uint64) *pb.EventResult {
		return w.fold(0, &pb.Event{Kind: &pb.Event_NodeEligible{NodeEligible: &pb.NodeEligible{Node: "b", Incarnation: incarnation}}}, nil)
	}
	if r := nodeEligible(2); r.Code != codeStale {
		t.Errorf("an earlier incarnation: %v", r)
	}
	if r := nodeEligible(3); r.Code != codeOK {
		t.Errorf("the present incarnation: %v", r)
	}
	eligible("a", "b")
	// All have restarted: waiting for one to earn it would stop delivery.
	w.up("a", 4, 1)
	w.up("b", 5, 3)
	eligible("a", "b")
	checkState(t, w.state)
}

// An attempt that began before the hosts changed says nothing of the new ones.
func TestVerdictOnOldHostsIsStale(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	before, _ := w.state.Destination("dest")
	moved := destinationSet("dest")
	moved.GetDestinationSet().Destination.Hosts[0].Address = "127.0.0.1:2525"
	w.must(1, w.renewed(moved), nil)
	failed := &pb.Event{Kind: &pb.Event_DestinationFailed{DestinationFailed: &pb.DestinationFailed{
		Name: "dest", Probes: before.Health.Probes, Failure: &pb.Failure{Cause: "refused"},
	}}}
	if r := w.fold(1, failed, nil); r.Code != codeStale {
		t.Errorf("a failure of the old hosts: %v, want stale", r)
	}
	now, _ := w.state.Destination("dest")
	if now.Health.State != pb.DestinationHealth_STATE_UP {
		t.Errorf("health %v", now.Health)
	}
	// The same configuration again changes nothing that is under way.
	same := destinationSet("dest")
	same.GetDestinationSet().Destination.Hosts[0].Address = "127.0.0.1:2525"
	w.must(1, w.renewed(same), nil)
	if again, _ := w.state.Destination("dest"); again.Health.Probes != now.Health.Probes {
		t.Errorf("probe number %d, want %d still", again.Health.Probes, now.Health.Probes)
	}
}
