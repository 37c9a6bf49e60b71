package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "holdfast/proto/holdfast/v1"
)

func recipientsChanged(domain string, added, removed []string) *pb.Event {
	return &pb.Event{By: "local user root", Kind: &pb.Event_RecipientsChanged{RecipientsChanged: &pb.RecipientsChanged{
		Domain: domain, Added: added, Removed: removed,
	}}}
}

func domainRemoved(name string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: name}}}
}

// manyNames are n local parts, sorted.
func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("user-%05d", i)
	}
	return names
}

// list lists recipients of example.test, 1,000 at a time.
func (w *world) list(names []string) {
	w.t.Helper()
	for piece := range slices.Chunk(names, MaxRecipientsChanged) {
		w.must(1, recipientsChanged("example.test", piece, nil), nil)
	}
}

func (w *world) listedOf(domain string) []string {
	w.t.Helper()
	var names []string
	for _, r := range w.listedRecipients(domain, "", 10_000) {
		names = append(names, r.LocalPart)
	}
	return names
}

func (w *world) listedRecipients(domain, behind string, limit int) []ListedRecipient {
	w.t.Helper()
	found, err := w.view().ListedRecipients(domain, behind, limit)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

func (w *world) isListed(domain, localPart string) bool {
	w.t.Helper()
	listed, err := w.state.Listed(domain, localPart)
	if err != nil {
		w.t.Fatal(err)
	}
	return listed
}

func TestListedRecipients(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, domainSet("example.test.other", "dest"), nil)
	change := func(added, removed []string, changed uint32, listed uint64) {
		t.Helper()
		if r := w.fold(1, recipientsChanged("example.test", added, removed), nil); r.Code != pb.EventResult_CODE_OK || r.Changed != changed {
			t.Errorf("%v changed, want %d", r, changed)
		}
		if c := w.view().DomainCounter("example.test"); c.Listed != listed {
			t.Errorf("%d are counted, want %d", c.Listed, listed)
		}
	}
	configured := w.index
	change([]string{"ann", "bob", "ann"}, nil, 2, 2)
	if v := w.view(); v.Configured() != w.index || v.Configured() == configured {
		t.Error("a change of the list is none of the configuration")
	}
	at := w.index
	w.now = w.now.Add(1)
	change([]string{"ann"}, []string{"nobody"}, 0, 2) // both are so already
	if last, err := w.view().LastChange("recipients", "example.test"); err != nil || last.Index != at || last.By != "local user root" {
		t.Errorf("last changed: %+v %v", last, err)
	}
	if r := w.listedRecipients("example.test", "", 1)[0].Record; r.AddedBy != "local user root" || r.AddedAt != w.now.UnixNano()-1 {
		t.Errorf("ann was added by %v", r)
	}
	for _, name := range []string{"ann", "Ann", "BOB"} {
		if !w.isListed("example.test", name) {
			t.Errorf("%s is not listed", name)
		}
	}
	change([]string{"carl", "älva"}, []string{"bob", "bob"}, 3, 3)
	if w.isListed("example.test", "bob") || w.isListed("example.test.other", "ann") || !w.isListed("example.test", "ÄLVA") {
		t.Error("who is listed, and where")
	}
	if got := w.listedOf("example.test"); !slices.Equal(got, []string{"ann", "carl", "älva"}) {
		t.Errorf("listed: %v", got)
	}
	if got := w.listedRecipients("example.test", "ann", 1); len(got) != 1 || got[0].LocalPart != "carl" {
		t.Errorf("behind ann: %v", got)
	}
	past := w.view()
	if err := past.Rewind(configured); err != nil {
		t.Fatal(err)
	}
	if found, err := past.ListedRecipients("example.test", "", 10); err != nil || len(found) > 0 {
		t.Errorf("in the past: %v %v", found, err)
	}
	checkState(t, w.state)
}

func TestRefusedLists(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, domainSet("*", "dest"), nil)
	long := recipientsChanged("example.test", []string{"ann"}, nil)
	long.By = strings.Repeat("a", maxTokenMaker+1)
	for name, tt := range map[string]struct {
		event *pb.Event
		code  pb.EventResult_Code
	}{
		"no such domain":           {recipientsChanged("unknown.test", []string{"ann"}, nil), pb.EventResult_CODE_NOT_FOUND},
		"other domains":            {recipientsChanged("*", []string{"ann"}, nil), pb.EventResult_CODE_INVALID},
		"upper case":               {recipientsChanged("example.test", []string{"Ann"}, nil), pb.EventResult_CODE_INVALID},
		"nobody":                   {recipientsChanged("example.test", []string{""}, nil), pb.EventResult_CODE_INVALID},
		"a zero byte":              {recipientsChanged("example.test", []string{"a\x00b"}, nil), pb.EventResult_CODE_INVALID},
		"too long":                 {recipientsChanged("example.test", []string{strings.Repeat("a", 255)}, nil), pb.EventResult_CODE_INVALID},
		"added and removed":        {recipientsChanged("example.test", []string{"ann"}, []string{"ann"}), pb.EventResult_CODE_INVALID},
		"more than one event does": {recipientsChanged("example.test", manyNames(600), manyNames(1001)[600:]), pb.EventResult_CODE_INVALID},
		"somebody without end":     {long, pb.EventResult_CODE_INVALID},
	} {
		if r := w.fold(1, tt.event, nil); r.Code != tt.code || r.Text == "" {
			t.Errorf("%s: %v", name, r)
		}
	}
	if got := w.listedOf("example.test"); len(got) > 0 {
		t.Errorf("listed: %v", got)
	}
	checkState(t, w.state)
}

func TestListsHaveALimit(t *testing.T) {
	w := newWorld(t)
	w.state.caps.listed = 3
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, recipientsChanged("example.test", []string{"a", "b"}, nil), nil)
	for _, added := range [][]string{{"c", "d"}, {"a", "c", "d"}} {
		r := w.fold(1, recipientsChanged("example.test", added, nil), nil)
		if r.Code != pb.EventResult_CODE_IN_USE || !strings.Contains(r.Text, "4 listed recipients, 3 at most") {
			t.Errorf("beyond the limit: %v", r)
		}
	}
	w.must(1, recipientsChanged("example.test", []string{"a", "b", "c"}, nil), nil) // of which two are there
	w.must(1, recipientsChanged("example.test", []string{"d"}, []string{"a"}), nil)
	if got := w.listedOf("example.test"); !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("listed: %v", got)
	}
	w.state.caps.listed = 2 // as where a version had a higher one
	w.must(1, recipientsChanged("example.test", nil, []string{"b"}), nil)
}

// A domain takes its list along as far as one event may; with more, an operator
// empties it first.
func TestRemovedDomainTakesItsListAlong(t *testing.T) {
	for name, remove := range map[string]func(w *world) *pb.EventResult{
		"alone": func(w *world) *pb.EventResult { return w.fold(1, domainRemoved("example.test"), nil) },
		"in a configuration": func(w *world) *pb.EventResult {
			return w.apply(1, &pb.ConfigurationChange{RemovedDomains: []string{"example.test"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.up("a", 1, 0)
			w.configure(1)
			w.list(manyNames(1001))
			r := remove(w)
			if r.Code != pb.EventResult_CODE_IN_USE || !strings.Contains(r.Text, "1001 listed recipients: `holdfast recipient remove --all example.test`") {
				t.Fatalf("with 1,001: %v", r)
			}
			if got := w.listedOf("example.test"); len(got) != 1001 {
				t.Fatalf("%d are left", len(got))
			}
			w.must(1, recipientsChanged("example.test", nil, []string{"user-00500"}), nil)
			if r := remove(w); r.Code != pb.EventResult_CODE_OK {
				t.Fatalf("with 1,000: %v", r)
			}
			checkState(t, w.state)
			w.must(1, domainSet("example.test", "dest"), nil)
			if got := w.listedOf("example.test"); len(got) > 0 || w.view().DomainCounter("example.test").Listed != 0 {
				t.Errorf("%d are listed at the domain that was made anew", len(got))
			}
		})
	}
}

func TestConfiguredLists(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.list([]string{"ann", "bob"})
	list := func(domain string, added ...string) *pb.RecipientsChanged {
		return &pb.RecipientsChanged{Domain: domain, Added: added}
	}
	own := domainSet("own.test", "dest").GetDomainSet().Domain
	change := &pb.ConfigurationChange{
		Domains:    []*pb.DomainConfig{own},
		Recipients: []*pb.RecipientsChanged{{Domain: "example.test", Removed: []string{"bob"}}, list("own.test", manyNames(1500)...)},
	}
	if r := w.apply(1, change); r.Code != pb.EventResult_CODE_OK {
		t.Fatalf("lists of a new domain and of an old one: %v", r)
	}
	if last, err := w.view().LastChange("recipients", "own.test"); err != nil || last.Index != w.index || !last.File {
		t.Errorf("last changed: %+v %v", last, err)
	}
	if len(w.listedOf("own.test")) != 1500 || !slices.Equal(w.listedOf("example.test"), []string{"ann"}) {
		t.Errorf("listed: %d and %v", len(w.listedOf("own.test")), w.listedOf("example.test"))
	}
	checkState(t, w.state)

	w.state.caps.configured, w.state.caps.listed = 10, 1500
	w.must(1, domainSet("small.test", "dest"), nil)
	w.must(1, recipientsChanged("small.test", manyNames(10), nil), nil)
	for name, change := range map[string]*pb.ConfigurationChange{
		"a list twice":             {Recipients: []*pb.RecipientsChanged{list("own.test", "x"), list("own.test", "y")}},
		"of a domain that goes":    {RemovedDomains: []string{"example.test"}, Recipients: []*pb.RecipientsChanged{list("example.test", "x")}},
		"of a domain nobody knows": {Recipients: []*pb.RecipientsChanged{list("unknown.test", "x")}},
		"beyond the limit":         {Recipients: []*pb.RecipientsChanged{list("own.test", "x")}},
		"too much at once":         {Recipients: []*pb.RecipientsChanged{list("example.test", manyNames(10)...)}},
		"too much that goes":       {RemovedDomains: []string{"small.test"}},
	} {
		change.Settings = &pb.Settings{WarnPending: new(uint64(3))}
		if r := w.apply(1, change); r.Code == pb.EventResult_CODE_OK || r.Text == "" {
			t.Errorf("%s: %v", name, r)
		}
	}
	if w.state.Settings().WarnPending == 3 || len(w.listedOf("small.test")) != 10 {
		t.Error("a refused change changed something")
	}
	if r := w.apply(1, &pb.ConfigurationChange{RemovedDomains: []string{"example.test"}}); r.Code != pb.EventResult_CODE_OK {
		t.Errorf("a small list goes along: %v", r)
	}
	checkState(t, w.state)
}

func TestWaysToVerify(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	for verify, ok := range map[pb.Verify]map[string]bool{
		pb.Verify_VERIFY_UNSPECIFIED: {"own.test": true, "*": true},
		pb.Verify_VERIFY_OFF:         {"own.test": true, "*": true},
		pb.Verify_VERIFY_CALLOUT:     {"own.test": true},
		pb.Verify_VERIFY_LISTED:      {"own.test": true},
		4:                            {},
		-1:                           {},
	} {
		for _, name := range []string{"own.test", "*"} {
			r := w.fold(1, w.renewed(domainVerify(name, "dest", verify)), nil)
			if (r.Code == pb.EventResult_CODE_OK) != ok[name] || r.Code != pb.EventResult_CODE_OK && r.Code != pb.EventResult_CODE_INVALID {
				t.Errorf("%s for %s: %v", verify, name, r)
			}
		}
	}
}

func domainVerify(name, destination string, verify pb.Verify) *pb.Event {
	event := domainSet(name, destination)
	event.GetDomainSet().Domain.Verify = verify
	return event
}
