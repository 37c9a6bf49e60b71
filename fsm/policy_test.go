package fsm

import (
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func domainWithPolicy(policy string) *pb.Event {
	event := domainSet("example.test", "dest")
	event.GetDomainSet().Domain.Policy = policy
	return event
}

func TestPolicyInUseStays(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, policySet("own", 10*time.Hour), nil)
	w.must(1, w.renewed(domainWithPolicy("own")), nil)
	for _, tt := range []struct {
		event *pb.Event
		code  pb.EventResult_Code
		text  string
	}{
		{policyRemoved("own"), pb.EventResult_CODE_IN_USE, "holdfast domain set example.test --policy NAME"},
		{policyRemoved("other"), pb.EventResult_CODE_NOT_FOUND, "other"},
		{policyRemoved("month"), pb.EventResult_CODE_INVALID, "ships with the program"},
		{policySet("month", time.Hour), pb.EventResult_CODE_INVALID, "ships with the program"},
		{policySet("a b", time.Hour), pb.EventResult_CODE_INVALID, "letters"},
		{policySet("own", -time.Hour), pb.EventResult_CODE_INVALID, "retention"},
		{w.renewed(domainWithPolicy("other")), pb.EventResult_CODE_NOT_FOUND, "holdfast policy set other"},
		{&pb.Event{Kind: &pb.Event_PolicySet{PolicySet: &pb.PolicySet{}}}, pb.EventResult_CODE_INVALID, "no policy"},
	} {
		if r := w.fold(1, tt.event, nil); r.Code != tt.code || !strings.Contains(r.Text, tt.text) {
			t.Errorf("%v: %v %q, want %v with %q", tt.event.Kind, r.Code, r.Text, tt.code, tt.text)
		}
	}
	w.must(1, w.renewed(domainWithPolicy("month")), nil)
	w.must(1, policyRemoved("own"), nil)
	w.checkConsistent()
	checkState(t, w.state)
}

func TestPolicyIsReadAsSet(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, policySet("own", 10*time.Hour), nil)
	w.must(1, w.renewed(domainWithPolicy("own")), nil)
	if p := w.state.PolicyFor("example.test", ClassMail); p.Retention != 10*time.Hour || p.Jitter != 0.125 ||
		p.MaxAttempts != 20 || p.WarnAfter != 5*time.Hour || p.Phases[0].Factor != 1.5 || p.Phases[0].Every != time.Minute {
		t.Errorf("read as %+v", p)
	}
	for _, p := range []relay.Policy{w.state.PolicyFor("example.test", ClassReport), w.state.PolicyFor("nobody.test", ClassMail)} {
		if p.Name != relay.DefaultPolicy || p.Retention != 5*24*time.Hour {
			t.Errorf("a report, or a domain that isn't there, has %+v", p)
		}
	}
	v := w.view()
	var names []string
	for _, p := range v.Policies() {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "eleven five-day month month-extended own stepped" {
		t.Errorf("listed are %s", got)
	}
	if n := v.PolicyUsers("own"); n != 1 {
		t.Errorf("%d domains use it", n)
	}
}

// Reports expire by a policy of their own, so they aren't among the mail of the
// domain that they go to.
func TestReportsAreAClassOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id, report := w.acceptFrom("sender@example.test", "user@example.test"), w.newID()
	w.must(1, bounced(nil, id, report, 0), testBody)
	later := w.now.Add(time.Second)
	mail, err := w.state.Oldest("example.test", ClassMail, later, 10)
	if err != nil || len(mail) != 0 {
		t.Errorf("mail: %v, %v", mail, err)
	}
	reports, err := w.state.Oldest("example.test", ClassReport, later, 10)
	if err != nil || len(reports) != 1 || reports[0].ID != report {
		t.Errorf("reports: %v, %v", reports, err)
	}
	checkState(t, w.state)
}
