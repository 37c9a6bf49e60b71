package fsm

import (
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// configurationDigests are those of what a configuration file can change.
func configurationDigests(t *testing.T, s *State) []string {
	t.Helper()
	var found []string
	for _, d := range digestsOf(t, s) {
		if slices.Contains([]string{"domains", "destinations", "policies", "settings"}, d.Family) {
			found = append(found, fmt.Sprintf("%s %x %d", d.Family, d.Sum, d.Rows))
		}
	}
	return found
}

func (w *world) apply(incarnation uint64, change *pb.ConfigurationChange) *pb.EventResult {
	w.t.Helper()
	event, payload := configurationApplied(w.newID(), w.view().Configured(), change)
	event.By = "root"
	return w.fold(incarnation, event, payload)
}

// stage stores a change in pieces of 100 bytes.
func (w *world) stage(incarnation uint64, change *pb.ConfigurationChange) *pb.Event {
	w.t.Helper()
	event, payload := configurationApplied(w.newID(), w.view().Configured(), change)
	e := event.GetConfigurationApplied()
	for piece := range slices.Chunk(payload, 100) {
		w.must(incarnation, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
			MessageId: e.ContentId, Piece: e.Content.Pieces, Crc32C: crc32.Checksum(piece, castagnoli),
		}}}, piece)
		e.Content.Pieces++
	}
	return event
}

func manyDomains(n int, policy string) *pb.ConfigurationChange {
	change := &pb.ConfigurationChange{}
	for i := range n {
		domain := domainSet(fmt.Sprintf("customer-%05d.test", i), "dest").GetDomainSet().Domain
		domain.Policy = policy
		change.Domains = append(change.Domains, domain)
	}
	return change
}

func (w *world) staged() int {
	w.t.Helper()
	n := uint64(0)
	for _, d := range w.view().Digests() {
		if slices.Contains([]string{"uploads", "pieces", "content"}, d.Family) {
			n += d.Rows
		}
	}
	return int(n)
}

func TestConfigurationAppliedAtOneIndex(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	before := w.index
	change := manyDomains(30, "own")
	change.Policies = []*pb.PolicyConfig{policySet("own", time.Hour).GetPolicySet().Policy}
	change.Destinations = []*pb.DestinationConfig{destinationSet("new").GetDestinationSet().Destination}
	change.Domains[3].Destination = "new"
	change.RemovedDomains = []string{"example.test"}
	change.Settings = &pb.Settings{WarnPending: proto.Uint64(7)}
	event := w.stage(1, change)
	event.By = "root"
	if w.staged() == 0 {
		t.Fatal("nothing is staged")
	}
	w.must(1, event, nil)

	v := w.view()
	if len(v.Domains()) != 30 || v.Settings().WarnPending != 7 || v.Configured() != w.index {
		t.Errorf("%d domains, %+v, configured at %d of %d", len(v.Domains()), v.Settings(), v.Configured(), w.index)
	}
	for _, domain := range v.Domains() {
		if domain.Revision != w.index {
			t.Errorf("domain %s is of index %d, not %d", domain.Name, domain.Revision, w.index)
		}
	}
	for kind, name := range map[string]string{"domain": "example.test", "destination": "new", "policy": "own", "settings": ""} {
		last, err := v.LastChange(kind, name)
		if err != nil || last.Index != w.index || last.By != "root" || !last.File {
			t.Errorf("%s %s: %+v %v", kind, name, last, err)
		}
	}
	if w.staged() != 0 {
		t.Errorf("%d rows of the staged content are left", w.staged())
	}
	past := w.view()
	if err := past.Rewind(before); err != nil || len(past.Domains()) != 1 || past.Settings().WarnPending == 7 {
		t.Errorf("before: %v, %d domains", err, len(past.Domains()))
	}
	checkState(t, w.state)
	// Sent once more, as after an unknown outcome, it is answered from its session.
	if again := w.fold(1, event, nil); again.Code != pb.EventResult_CODE_OK {
		t.Errorf("again: %v", again)
	}
	// As an event of its own, it finds its content gone.
	late := proto.CloneOf(event)
	late.Sequence = 0
	if r := w.fold(1, late, nil); r.Code != pb.EventResult_CODE_INCOMPLETE {
		t.Errorf("late: %v", r)
	}
}

func TestRefusedConfigurationChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, destinationSet("other"), nil)
	w.must(1, domainSet("other.test", "other"), nil)
	w.must(1, policySet("own", time.Hour), nil)
	w.accept(1, "you@example.test")
	own := domainSet("own.test", "dest").GetDomainSet().Domain
	own.Policy = "own"
	w.must(1, &pb.Event{Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{Domain: own}}}, nil)
	before := configurationDigests(t, w.state)

	dangling := domainSet("a.test", "nowhere").GetDomainSet().Domain
	noPolicy := domainSet("a.test", "dest").GetDomainSet().Domain
	noPolicy.Policy = "nobody's"
	moved := domainSet("example.test", "other").GetDomainSet().Domain
	shipped := policySet("month", time.Hour).GetPolicySet().Policy
	fine := manyDomains(3, "own").Domains
	for name, c := range map[string]struct {
		change *pb.ConfigurationChange
		code   pb.EventResult_Code
	}{
		"no such destination":      {&pb.ConfigurationChange{Domains: append(fine[:3:3], dangling)}, pb.EventResult_CODE_NOT_FOUND},
		"no such policy":           {&pb.ConfigurationChange{Domains: append(fine[:3:3], noPolicy)}, pb.EventResult_CODE_NOT_FOUND},
		"policy removed and used":  {&pb.ConfigurationChange{Domains: fine, RemovedPolicies: []string{"own"}}, pb.EventResult_CODE_IN_USE},
		"destination in use":       {&pb.ConfigurationChange{Domains: fine, RemovedDestinations: []string{"other"}}, pb.EventResult_CODE_IN_USE},
		"destination with mail":    {&pb.ConfigurationChange{Domains: append(fine[:3:3], moved), RemovedDestinations: []string{"dest"}}, pb.EventResult_CODE_IN_USE},
		"domain with mail":         {&pb.ConfigurationChange{Domains: fine, RemovedDomains: []string{"example.test"}}, pb.EventResult_CODE_IN_USE},
		"no such domain":           {&pb.ConfigurationChange{RemovedDomains: []string{"a.test"}}, pb.EventResult_CODE_NOT_FOUND},
		"twice":                    {&pb.ConfigurationChange{Domains: append(fine[:3:3], fine[0])}, pb.EventResult_CODE_INVALID},
		"set and removed":          {&pb.ConfigurationChange{Domains: fine, RemovedDomains: []string{fine[1].Name}}, pb.EventResult_CODE_INVALID},
		"shipped":                  {&pb.ConfigurationChange{Domains: fine, Policies: []*pb.PolicyConfig{shipped}}, pb.EventResult_CODE_INVALID},
		"setting out of range":     {&pb.ConfigurationChange{Domains: fine, Settings: &pb.Settings{LogRetention: proto.Int64(1)}}, pb.EventResult_CODE_INVALID},
		"an empty destination":     {&pb.ConfigurationChange{Domains: fine, Destinations: []*pb.DestinationConfig{{}}}, pb.EventResult_CODE_INVALID},
		"more than the limit":      {&pb.ConfigurationChange{RemovedDomains: make([]string, MaxConfigured+1)}, pb.EventResult_CODE_INVALID},
		"a destination that isn't": {&pb.ConfigurationChange{RemovedDestinations: []string{"nowhere"}}, pb.EventResult_CODE_NOT_FOUND},
	} {
		if r := w.apply(1, c.change); r.Code != c.code || r.Text == "" {
			t.Errorf("%s: %v, want %v", name, r, c.code)
		}
		if got := configurationDigests(t, w.state); !slices.Equal(got, before) {
			t.Fatalf("%s changed %v to %v", name, before, got)
		}
	}
	checkState(t, w.state)
}

func TestConfigurationThatIsNotWhole(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	before := configurationDigests(t, w.state)
	change := manyDomains(3, "five-day")
	for name, spoil := range map[string]func(e *pb.ConfigurationApplied) []byte{
		"stale":       func(e *pb.ConfigurationApplied) []byte { e.Configured--; return encode(change) },
		"another sum": func(e *pb.ConfigurationApplied) []byte { e.Content.Crc32C++; return encode(change) },
		"no payload":  func(*pb.ConfigurationApplied) []byte { return nil },
		"no content":  func(e *pb.ConfigurationApplied) []byte { e.Content = nil; return encode(change) },
		"no id":       func(e *pb.ConfigurationApplied) []byte { e.ContentId = nil; return encode(change) },
		"no pieces":   func(e *pb.ConfigurationApplied) []byte { e.Content.Pieces = 2; return encode(change) },
		"too large":   func(e *pb.ConfigurationApplied) []byte { e.Content.Size = MaxConfigurationSize + 1; return nil },
		"no proto": func(e *pb.ConfigurationApplied) []byte {
			text := []byte("[domain]")
			e.Content.Size, e.Content.Crc32C = uint64(len(text)), crc32.Checksum(text, castagnoli)
			return text
		},
	} {
		event, _ := configurationApplied(w.newID(), w.view().Configured(), change)
		payload := spoil(event.GetConfigurationApplied())
		if r := w.fold(1, event, payload); r.Code == pb.EventResult_CODE_OK || r.Text == "" {
			t.Errorf("%s: %v", name, r)
		}
	}
	// Pieces of another incarnation aren't the proposer's to use.
	w.up("b", 2, 0)
	event := w.stage(1, change)
	if r := w.fold(2, event, nil); r.Code != pb.EventResult_CODE_INCOMPLETE {
		t.Errorf("another's: %v", r)
	}
	if got := configurationDigests(t, w.state); !slices.Equal(got, before) {
		t.Errorf("changed %v to %v", before, got)
	}
	checkState(t, w.state)
}

// A proposer that dies between staging and commit leaves nothing behind, and
// what it sends later is refused.
func TestStagedConfigurationOfADeadNode(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.up("b", 2, 0)
	w.configure(2)
	event := w.stage(1, manyDomains(300, "five-day"))
	if w.staged() < 2*sweepPieces {
		t.Fatalf("only %d rows are staged", w.staged())
	}
	if r := w.down("a", 1); r.Code != pb.EventResult_CODE_OK {
		t.Fatal(r)
	}
	if r := w.fold(1, event, nil); r.Code != pb.EventResult_CODE_NOT_ACTIVE {
		t.Errorf("after its end: %v", r)
	}
	for range 10 {
		w.must(2, &pb.Event{Kind: &pb.Event_VerifyMarked{VerifyMarked: &pb.VerifyMarked{}}}, nil)
	}
	if w.staged() != 0 {
		t.Errorf("%d rows are left", w.staged())
	}
	if n := len(w.view().Domains()); n != 1 {
		t.Errorf("%d domains", n)
	}
	checkState(t, w.state)
}

func TestWhoChangedTheConfiguration(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	by := func(name string, event *pb.Event) *pb.Event {
		event.By = name
		return w.renewed(event)
	}
	w.must(1, by("ann", destinationSet("dest")), nil)
	w.must(1, by("ann", domainSet("example.test", "dest")), nil)
	w.must(1, by("bob", domainSet("example.test", "dest")), nil)
	changed := w.index
	w.must(1, by("cay", domainSet("gone.test", "dest")), nil)
	w.must(1, by("dan", &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "gone.test"}}}), nil)
	w.must(1, by("eve", settingsChanged(&pb.Settings{DrillConsent: proto.Bool(true)})), nil)
	w.must(1, domainSet("silent.test", "dest"), nil)
	v := w.view()
	for _, c := range []struct{ kind, name, by string }{
		{"destination", "dest", "ann"}, {"domain", "example.test", "bob"}, {"domain", "gone.test", "dan"},
		{"settings", "", "eve"}, {"domain", "silent.test", ""}, {"domain", "never.test", ""},
	} {
		last, err := v.LastChange(c.kind, c.name)
		if err != nil || last.By != c.by || last.File {
			t.Errorf("%s %s: %+v %v, want %s", c.kind, c.name, last, err, c.by)
		}
	}
	if last, _ := v.LastChange("domain", "example.test"); last.Index != changed || !last.At.Equal(w.now) {
		t.Errorf("%+v", last)
	}
	checkState(t, w.state)
}

// The cost of one commit: go test -bench ConfigurationApplied ./fsm.
func BenchmarkConfigurationApplied(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000, MaxConfigured} {
		b.Run(fmt.Sprint(n, " domains"), func(b *testing.B) {
			w := newWorld(b)
			w.up("a", 1, 0)
			w.configure(1)
			policies := []string{"five-day", "month"}
			for round := 0; b.Loop(); round++ {
				b.StopTimer()
				change := manyDomains(n, policies[round%2])
				payload := encode(change)
				id := w.newID()
				content := &pb.Content{Size: uint64(len(payload)), Crc32C: crc32.Checksum(payload, castagnoli)}
				for piece := range slices.Chunk(payload, MaxPiece) {
					w.must(1, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
						MessageId: id[:], Piece: content.Pieces, Crc32C: crc32.Checksum(piece, castagnoli),
					}}}, piece)
					content.Pieces++
				}
				event := &pb.Event{Kind: &pb.Event_ConfigurationApplied{ConfigurationApplied: &pb.ConfigurationApplied{
					ContentId: id[:], Content: content, Configured: configuredAt(w),
				}}}
				b.StartTimer()
				w.must(1, event, nil)
			}
		})
	}
}

func configuredAt(w *world) uint64 {
	w.state.live.RLock()
	defer w.state.live.RUnlock()
	return w.state.live.applied.Configured
}
