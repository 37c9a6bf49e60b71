package fsm

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	pb "holdfast/proto/holdfast/v1"
)

// The tables of Unicode differ between the programs of a rolling upgrade, so that
// Apply folds ASCII alone: whatever is between one and the other stays as it is.
func TestDomainsAreFoldedAsASCII(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.newID()
	w.must(1, accepted(id, testBody, "x@BÜCHER.test", "y@EXAMPLE.test"), testBody)
	report := w.newID()
	w.must(1, bounced(nil, id, report, 0), testBody)
	r, err := w.view().Recipient(report, 0)
	if err != nil || r.Domain != "bÜcher.test" || r.State != frozenSt {
		t.Errorf("the report goes to domain %q, %v, %v", r.GetDomain(), r.GetState(), err)
	}
	if want := `the sender's domain "b\u00dccher.test"`; !strings.Contains(r.GetLastError().GetText(), want) {
		t.Errorf("it is frozen since %s, want %s", r.GetLastError().GetText(), want)
	}
	checkState(t, w.state)
}

// A result is state: nothing is in it that differs from build to build.
func TestResultsAreTheSameInAnyBuild(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.newID()
	event, _ := configurationApplied(id, w.view().Configured(), &pb.ConfigurationChange{})
	garbage := []byte{0x0a, 0xff}
	event.GetConfigurationApplied().Content = accepted(id, garbage, "").GetMessageAccepted().Content
	r := w.fold(1, event, garbage)
	if want := fmt.Sprintf("configuration %s can't be read: this node's log says why", id); r.Code != pb.EventResult_CODE_INVALID || r.Text != want {
		t.Errorf("%v %q, want %q", r.Code, r.Text, want)
	}
	r = w.fold(1, recipientsChanged("bücher.test", nil, nil), nil)
	if want := `no domain "b\u00fccher.test"`; r.Text != want {
		t.Errorf("%s, want %s", r.Text, want)
	}
	// Characters that are printable in one version are escaped in those before it.
	for _, text := range []string{"plain", "a\"b\\\x1f", "über", "\u0378", "\u0085", "\ufffd", "\U0001fae9", "\U0010ffff"} {
		if got := inASCII(strconv.Quote(text)); got != strconv.QuoteToASCII(text) {
			t.Errorf("%s, want %s", got, strconv.QuoteToASCII(text))
		}
	}
}
