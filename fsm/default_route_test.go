package fsm

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func relayNetworks(networks ...string) *pb.Event {
	return settingsChanged(&pb.Settings{RelayNetworks: &pb.RelayNetworks{Networks: networks}})
}

// acceptElsewhere takes mail to domains that aren't configured, as the front door
// does.
func (w *world) acceptElsewhere(to ...string) relay.MessageID {
	w.t.Helper()
	id := w.newID()
	event := accepted(id, testBody, "sender@elsewhere.test", to...)
	for _, r := range event.GetMessageAccepted().Recipients {
		r.Domain = relay.DefaultRoute
	}
	w.must(1, event, testBody)
	return id
}

// found are the messages that the log and the queue list for a filter.
func (w *world) found(f Filter) (logged, queued []relay.MessageID) {
	w.t.Helper()
	logged, _, err := w.view().Log(f, nil, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	queued, _, err = w.view().Queue(f, nil, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	slices.SortFunc(logged, func(a, b relay.MessageID) int { return strings.Compare(a.String(), b.String()) })
	slices.SortFunc(queued, func(a, b relay.MessageID) int { return strings.Compare(a.String(), b.String()) })
	return logged, queued
}

func TestRelayNetworks(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	client := netip.MustParseAddr("192.0.2.9")
	want := func(s *State, listed bool, networks ...string) {
		t.Helper()
		if got := s.Settings().RelayNetworks; !slices.Equal(got, networks) || s.InRelayNetwork(client) != listed {
			t.Errorf("networks %q, want %q; client listed: %t", got, networks, s.InRelayNetwork(client))
		}
	}
	want(w.state, false)
	w.must(1, relayNetworks("192.0.2.0/24", "2001:db8::1"), nil)
	want(w.state, true, "192.0.2.0/24", "2001:db8::1")
	w.must(1, settingsChanged(&pb.Settings{DrillConsent: new(bool)}), nil)
	want(w.state, true, "192.0.2.0/24", "2001:db8::1")
	before := w.index
	w.must(1, relayNetworks("2001:db8::/32"), nil)
	want(w.state, false, "2001:db8::/32")
	if r := w.fold(1, relayNetworks("192.0.2.9", "0.0.0.0/0"), nil); r.Code != pb.EventResult_CODE_INVALID || !strings.Contains(r.Text, "open relay") {
		t.Errorf("everybody: %v", r)
	}
	want(w.state, false, "2001:db8::/32")
	past := w.view()
	if err := past.Rewind(before); err != nil || len(past.Settings().RelayNetworks) != 2 {
		t.Errorf("before: %v %+v", err, past.Settings())
	}
	checkState(t, w.state)
	gen, err := w.state.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer gen.release()
	tables, err := loadTables(gen.db)
	if err != nil || !slices.Equal(tables.relayNetworks, w.state.published().relayNetworks) || len(tables.relayNetworks) != 1 {
		t.Errorf("read back: %v %v", tables.relayNetworks, err)
	}
	w.must(1, relayNetworks(), nil)
	want(w.state, false)
}

// Mail to domains that aren't configured goes by the default route and is found
// under it, whatever is configured later.
func TestDefaultRoute(t *testing.T) {
	w := operatorWorld(t)
	id := w.newID()
	early := accepted(id, testBody, "sender@elsewhere.test", "one@far.test")
	early.GetMessageAccepted().Recipients[0].Domain = relay.DefaultRoute
	if r := w.fold(1, early, testBody); r.Code != pb.EventResult_CODE_UNROUTABLE {
		t.Fatalf("without a default route: %v", r)
	}
	month := domainSet(relay.DefaultRoute, "other")
	month.GetDomainSet().Domain.Policy = "month"
	w.must(1, month, nil)
	if r := w.fold(1, accepted(id, testBody, "sender@elsewhere.test", "one@far.test"), testBody); r.Code != pb.EventResult_CODE_UNROUTABLE {
		t.Fatalf("an acceptance that doesn't name the default route: %v", r)
	}
	first := w.acceptElsewhere("one@far.test", "two@Distant.TEST")
	w.must(1, domainSet("far.test", "dest"), nil)
	second := w.accept(1, "one@far.test")

	r := w.wantState(first, 0, pending)
	if r.Domain != "*" || r.Destination != "other" || w.recipientOf(second, 0).Destination != "dest" {
		t.Errorf("accepted before far.test was configured: %v, after: %v", r, w.recipientOf(second, 0))
	}
	if p := w.view().PolicyFor(r.Domain, ClassMail); p.Name != "month" {
		t.Errorf("its policy is %s", p.Name)
	}
	if c := w.view().DomainCounter("*"); c.Pending != 2 || c.Messages != 1 {
		t.Errorf("counter %v", c)
	}
	if due, err := w.state.Oldest("*", ClassMail, w.now.Add(time.Second), 9); err != nil || len(due) != 2 {
		t.Errorf("for expiry: %v %v", due, err)
	}
	for _, c := range []struct {
		filter Filter
		want   []relay.MessageID
	}{
		{Filter{Domain: "*"}, []relay.MessageID{first}},
		{Filter{Domain: "far.test"}, []relay.MessageID{second}},
		{Filter{To: "*@far.test"}, []relay.MessageID{first, second}},
		{Filter{To: "*@distant.test"}, []relay.MessageID{first}},
		{Filter{To: "two@distant.test", Domain: "*"}, []relay.MessageID{first}},
		{Filter{To: "*@far.test", Domains: []string{"far.test"}}, []relay.MessageID{second}},
		{Filter{To: "*@far.test", Domains: []string{"*"}}, []relay.MessageID{first}},
		{Filter{Domains: []string{"example.test"}}, nil},
	} {
		logged, queued := w.found(c.filter)
		if !slices.Equal(logged, c.want) || !slices.Equal(queued, c.want) {
			t.Errorf("%+v: log %v, queue %v, want %v", c.filter, logged, queued, c.want)
		}
	}

	remove := &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "*"}}}
	if r := w.fold(1, remove, nil); r.Code != pb.EventResult_CODE_IN_USE || !strings.Contains(r.Text, "--domain '*'") {
		t.Errorf("removed with its mail queued: %v", r)
	}
	w.must(1, operated(&pb.Operation{Kind: pb.Operation_KIND_DELETE, By: "ann"}, first, 0, 1), nil)
	remove.Sequence = 0
	w.must(1, remove, nil)
	checkState(t, w.state)
}

// A report goes by the default route where its sender's domain isn't configured,
// and so does one that was frozen before there was a route.
func TestReportsByTheDefaultRoute(t *testing.T) {
	w := operatorWorld(t)
	bounce := func(from string) relay.MessageID {
		id, report := w.newID(), w.newID()
		w.must(1, accepted(id, testBody, from, "one@example.test"), testBody)
		w.must(1, &pb.Event{Kind: &pb.Event_Bounced{Bounced: &pb.Bounced{
			MessageId: id[:], Reason: pb.Bounced_REASON_EXPIRED, Recipients: []*pb.Bounced_Recipient{{}},
			Report: &pb.Bounced_Report{MessageId: report[:], Content: &pb.Content{}},
		}}}, nil)
		return report
	}
	early := bounce("me@far.test")
	w.wantState(early, 0, frozenSt)
	w.must(1, domainSet(relay.DefaultRoute, "other"), nil)
	late := bounce("me@far.test")
	if r := w.wantState(late, 0, pending); r.Domain != "*" || r.Destination != "other" || r.Elsewhere {
		t.Errorf("report: %v", r)
	}
	if r := w.wantState(bounce("me@other.test"), 0, pending); r.Domain != "other.test" || r.Recipient.Domain != "" {
		t.Errorf("report to a configured domain: %v", r)
	}
	w.wantState(bounce("me@[192.0.2.1]"), 0, frozenSt)

	w.must(1, operated(opThaw, early, 0), nil)
	if r := w.wantState(early, 0, pending); r.Domain != "*" || r.Recipient.Domain != "*" || r.Destination != "other" {
		t.Errorf("thawed: %v", r)
	}
	for _, f := range []Filter{{Domain: "*"}, {To: "*@far.test"}, {To: "me@far.test"}} {
		if logged, _ := w.found(f); !slices.Equal(logged, []relay.MessageID{early, late}) {
			t.Errorf("%+v: %v", f, logged)
		}
	}
	if logged, _ := w.found(Filter{Domain: "far.test"}); len(logged) != 0 {
		t.Errorf("under the domain that it was frozen for: %v", logged)
	}
	if c, elsewhere := w.view().DomainCounter("*"), w.view().DomainCounter(""); c.Pending != 2 || elsewhere.Frozen != 1 {
		t.Errorf("counters %v %v", c, elsewhere)
	}
}
