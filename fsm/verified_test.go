package fsm

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

const (
	valid      = pb.Verdict_VERDICT_VALID
	unknown    = pb.Verdict_VERDICT_UNSPECIFIED
	badUser    = pb.Verdict_VERDICT_INVALID
	acceptsAll = pb.Verdict_VERDICT_ACCEPTS_ANY
	selective  = pb.Verdict_VERDICT_SELECTIVE
	callout    = pb.Verify_VERIFY_CALLOUT
)

var noSuchUser = &pb.Failure{
	Cause: "rejected", Phase: "rcpt", Code: 550, Enhanced: "5.1.1", Text: "no such user", At: time.Unix(1_700_000_000, 0).UnixNano(),
}

// newVerifying is a world whose domain example.test asks its destination, dest.
func newVerifying(t *testing.T) *world {
	w := newWorld(t)
	w.configureVerifying()
	return w
}

func (w *world) configureVerifying() {
	w.t.Helper()
	w.up("a", 1, 0)
	w.must(1, destinationSet("dest"), nil)
	w.must(1, domainVerify("example.test", "dest", callout), nil)
}

// verdict is one of the destination as it is, good for a time from now on.
func (w *world) verdict(localPart string, verdict, ofDomain pb.Verdict, good time.Duration) *pb.Event {
	dest, _ := w.state.Destination("dest")
	until := w.now.Add(good).UnixNano()
	e := &pb.RecipientVerified{
		LocalPart: localPart, Domain: "example.test", Destination: "dest", Revision: dest.GetConfig().GetRevision(),
		Verdict: verdict, DomainVerdict: ofDomain,
	}
	if verdict != unknown {
		e.Until = until
	}
	if ofDomain != unknown {
		e.DomainUntil = until
	}
	if verdict == badUser {
		e.Failure = noSuchUser
	}
	return &pb.Event{Kind: &pb.Event_RecipientVerified{RecipientVerified: e}}
}

func (w *world) verify(localPart string, verdict, ofDomain pb.Verdict, good time.Duration) {
	w.t.Helper()
	w.must(1, w.verdict(localPart, verdict, ofDomain, good), nil)
}

// verified is what is known now, nil where nothing is.
func (w *world) verified(localPart string) *pb.VerifiedRecord {
	w.t.Helper()
	record, err := w.state.Verified("example.test", localPart, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return record
}

func (w *world) checkVerdicts(what string, want map[string]pb.Verdict) {
	w.t.Helper()
	for localPart, verdict := range want {
		if got := w.verified(localPart).GetVerdict(); got != verdict {
			w.t.Errorf("%s: %q is %v, want %v", what, localPart, got, verdict)
		}
	}
}

// keptVerdicts is how many there are, good or not.
func (w *world) keptVerdicts() int {
	w.t.Helper()
	return int(w.view().digest("verified").rows)
}

// moveDestination gives the destination another host.
func (w *world) moveDestination() {
	w.t.Helper()
	moved := destinationSet("dest")
	moved.GetDestinationSet().Destination.Hosts[0].Address = fmt.Sprintf("192.0.2.1:%d", w.index)
	w.must(1, w.renewed(moved), nil)
}

func TestVerdictsAreKept(t *testing.T) {
	w := newVerifying(t)
	w.verify("Ann", valid, selective, 4*time.Hour)
	w.verify("nobody", badUser, unknown, 2*time.Hour)
	w.checkVerdicts("at first", map[string]pb.Verdict{"Ann": valid, "ann": unknown, "nobody": badUser, "": selective, "bob": unknown})
	if r := w.verified("nobody"); !proto.Equal(r.Failure, noSuchUser) || r.At != w.now.UnixNano() || r.Until != w.now.Add(2*time.Hour).UnixNano() || r.Destination != "dest" {
		t.Errorf("who isn't there: %v", r)
	}
	if other, err := w.state.Verified("example", "Ann", w.now); other != nil || err != nil {
		t.Errorf("elsewhere: %v %v", other, err)
	}
	list := func(behind string, limit int) (names []string) {
		t.Helper()
		found, err := w.view().VerifiedRecipients("example.test", behind, limit, w.now)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range found {
			names = append(names, r.LocalPart)
		}
		return names
	}
	for _, tt := range []struct {
		behind string
		limit  int
		want   string
	}{{"", 9, "[ Ann nobody]"}, {"", 2, "[ Ann]"}, {"Ann", 2, "[nobody]"}, {"nobody", 2, "[]"}} {
		if got := fmt.Sprint(list(tt.behind, tt.limit)); got != tt.want {
			t.Errorf("%d behind %q: %s, want %s", tt.limit, tt.behind, got, tt.want)
		}
	}
	w.now = w.now.Add(2 * time.Hour)
	w.checkVerdicts("after two hours", map[string]pb.Verdict{"Ann": valid, "nobody": unknown, "": selective})
	if got := fmt.Sprint(list("", 9)); got != "[ Ann]" {
		t.Errorf("after two hours: %s", got)
	}
	w.now = w.now.Add(2 * time.Hour)
	w.checkVerdicts("after four hours", map[string]pb.Verdict{"Ann": unknown, "": unknown})
	w.verify("Ann", badUser, unknown, time.Hour) // over what was there
	w.verify("Ann", valid, unknown, time.Minute)
	w.checkVerdicts("verified anew", map[string]pb.Verdict{"Ann": valid})
	past := w.view()
	if err := past.Rewind(w.index - 1); err != nil {
		t.Fatal(err)
	}
	if found, err := past.VerifiedRecipients("example.test", "", 9, w.now); err != nil || len(found) > 0 {
		t.Errorf("in the past: %v %v", found, err)
	}
	checkState(t, w.state)
}

// What was asked of somebody else, or of the same before it was changed, is refused
// where it comes late, and means nothing where it is there, except that a recipient
// is valid.
func TestVerdictOfAnotherDestination(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"other hosts": (*world).moveDestination,
		"another destination": func(w *world) {
			w.must(1, destinationSet("other"), nil)
			w.must(1, w.renewed(domainVerify("example.test", "other", callout)), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newVerifying(t)
			w.verify("ann", valid, selective, time.Hour)
			w.verify("nobody", badUser, unknown, time.Hour)
			late := w.verdict("bob", valid, unknown, time.Hour)
			change(w)
			w.checkVerdicts("after the change", map[string]pb.Verdict{"ann": valid, "nobody": unknown, "": unknown})
			if r := w.fold(1, late, nil); r.Code != pb.EventResult_CODE_STALE || r.Text == "" {
				t.Errorf("a verdict from before the change: %v", r)
			}
			found, err := w.view().VerifiedRecipients("example.test", "", 9, w.now)
			if err != nil || len(found) != 1 || found[0].LocalPart != "ann" {
				t.Errorf("listed: %v %v", found, err)
			}
			checkState(t, w.state)
		})
	}
}

// A destination that took any recipient before it was changed has to show it again.
func TestAcceptsAnyEndsWithTheHosts(t *testing.T) {
	w := newVerifying(t)
	w.verify("ann", valid, acceptsAll, time.Hour)
	w.moveDestination()
	w.checkVerdicts("after the change", map[string]pb.Verdict{"": unknown})
	w.verify("ann", valid, unknown, time.Hour)
	w.checkVerdicts("verified after it", map[string]pb.Verdict{"ann": valid, "": unknown})
}

// A call-out that began before a delivery, a refusal or another call-out was noted may
// have found out what isn't so any more.
func TestLaterWordCounts(t *testing.T) {
	w := newVerifying(t)
	w.verify("Ann", valid, selective, time.Hour)
	w.now = w.now.Add(-time.Second)
	for name, late := range map[string]*pb.Event{
		"of the recipient": w.verdict("Ann", badUser, unknown, time.Hour),
		"of the domain":    w.verdict("", unknown, acceptsAll, time.Hour),
		"with another's":   w.verdict("bob", valid, acceptsAll, time.Hour),
	} {
		if r := w.fold(1, late, nil); r.Code != pb.EventResult_CODE_STALE {
			t.Errorf("an earlier word %s: %v", name, r)
		}
	}
	w.now = w.now.Add(time.Second)
	w.checkVerdicts("after an earlier word", map[string]pb.Verdict{"Ann": valid, "": selective})
	w.verify("Ann", badUser, unknown, time.Hour)
	w.checkVerdicts("after one of the same time", map[string]pb.Verdict{"Ann": badUser})
}

func TestRefusedVerdicts(t *testing.T) {
	w := newVerifying(t)
	w.must(1, domainVerify("listed.test", "dest", pb.Verify_VERIFY_LISTED), nil)
	w.must(1, domainSet("off.test", "dest"), nil)
	w.must(1, destinationSet("other"), nil)
	for name, tt := range map[string]struct {
		change func(e *pb.RecipientVerified)
		code   pb.EventResult_Code
	}{
		"fine":                     {func(*pb.RecipientVerified) {}, pb.EventResult_CODE_OK},
		"no such domain":           {func(e *pb.RecipientVerified) { e.Domain = "unknown.test" }, pb.EventResult_CODE_NOT_FOUND},
		"a domain with a list":     {func(e *pb.RecipientVerified) { e.Domain = "listed.test" }, pb.EventResult_CODE_STALE},
		"a domain that takes all":  {func(e *pb.RecipientVerified) { e.Domain = "off.test" }, pb.EventResult_CODE_STALE},
		"somebody else was asked":  {func(e *pb.RecipientVerified) { e.Destination = "other" }, pb.EventResult_CODE_STALE},
		"nothing was found out":    {func(e *pb.RecipientVerified) { e.Verdict = unknown }, pb.EventResult_CODE_INVALID},
		"a domain's verdict":       {func(e *pb.RecipientVerified) { e.Verdict = selective }, pb.EventResult_CODE_INVALID},
		"a recipient's verdict":    {func(e *pb.RecipientVerified) { e.DomainVerdict = valid }, pb.EventResult_CODE_INVALID},
		"an unknown verdict":       {func(e *pb.RecipientVerified) { e.Verdict = 9 }, pb.EventResult_CODE_INVALID},
		"nobody":                   {func(e *pb.RecipientVerified) { e.LocalPart = "" }, pb.EventResult_CODE_INVALID},
		"a zero byte":              {func(e *pb.RecipientVerified) { e.LocalPart = "\x00" }, pb.EventResult_CODE_INVALID},
		"refused without a reason": {func(e *pb.RecipientVerified) { e.Verdict = badUser }, pb.EventResult_CODE_INVALID},
		"over already":             {func(e *pb.RecipientVerified) { e.Until = w.now.UnixNano() }, pb.EventResult_CODE_INVALID},
		"without end":              {func(e *pb.RecipientVerified) { e.Until = w.now.Add(92 * 24 * time.Hour).UnixNano() }, pb.EventResult_CODE_INVALID},
		"of the domain, over":      {func(e *pb.RecipientVerified) { e.DomainVerdict = selective }, pb.EventResult_CODE_INVALID},
		"a long refusal": {func(e *pb.RecipientVerified) {
			e.Verdict, e.Failure = badUser, &pb.Failure{Text: string(make([]byte, maxOperationText))}
		}, pb.EventResult_CODE_INVALID},
	} {
		event := w.verdict("ann", valid, unknown, time.Hour)
		tt.change(event.GetRecipientVerified())
		if r := w.fold(1, event, nil); r.Code != tt.code {
			t.Errorf("%s: %v", name, r)
		}
	}
	if n := w.keptVerdicts(); n != 1 {
		t.Errorf("%d verdicts are kept, want one", n)
	}
	checkState(t, w.state)
}

// Of a domain that takes any recipient nothing is kept of single ones, until a
// refusal shows that it doesn't any more, or the verdict is over.
func TestAcceptsAny(t *testing.T) {
	w := newVerifying(t)
	w.verify("ann", valid, acceptsAll, time.Hour)
	w.verify("bob", valid, unknown, 2*time.Hour)
	w.checkVerdicts("while any is taken", map[string]pb.Verdict{"": acceptsAll, "ann": unknown, "bob": unknown})
	w.verify("nobody", badUser, unknown, 2*time.Hour)
	w.checkVerdicts("after a refusal", map[string]pb.Verdict{"": unknown, "nobody": badUser})
	w.verify("bob", valid, unknown, 2*time.Hour)
	w.verify("ann", badUser, acceptsAll, time.Hour)
	w.checkVerdicts("taken again", map[string]pb.Verdict{"": acceptsAll, "ann": unknown, "bob": valid})
	w.verify("ann", valid, selective, time.Hour)
	w.checkVerdicts("not any more", map[string]pb.Verdict{"": selective, "ann": valid})
	w.verify("", unknown, acceptsAll, time.Hour)
	w.now = w.now.Add(time.Hour)
	w.verify("carl", valid, unknown, time.Hour)
	w.checkVerdicts("over", map[string]pb.Verdict{"": unknown, "carl": valid})
	checkState(t, w.state)
}

// What is no longer good goes as other verdicts come, four at a time.
func TestVerdictsThatAreOverGo(t *testing.T) {
	w := newVerifying(t)
	for i := range 10 {
		w.verify(fmt.Sprint("user", i), valid, unknown, time.Duration(1+i)*time.Minute)
	}
	w.now = w.now.Add(6 * time.Minute)
	for i, want := range []int{10 - 4 + 1, 7 - 2 + 1, 7} {
		w.verify(fmt.Sprint("later", i), valid, unknown, time.Hour)
		if n := w.keptVerdicts(); n != want {
			t.Errorf("%d verdicts are kept after %d more, want %d", n, i+1, want)
		}
	}
	w.checkVerdicts("the good ones", map[string]pb.Verdict{"user6": valid, "user9": valid, "later0": valid})
	checkState(t, w.state)
}

// Made-up addresses push out each other, and not those that are good for days.
func TestVerdictsPushOutWhatEndsFirst(t *testing.T) {
	w := newVerifying(t)
	w.state.caps.verified = 10
	for i := range 8 {
		w.verify(fmt.Sprint("user", i), valid, unknown, 96*time.Hour)
		w.now = w.now.Add(time.Second)
	}
	for i := range 30 {
		w.verify(fmt.Sprint("nobody", i), badUser, unknown, 2*time.Hour)
		w.now = w.now.Add(time.Second)
	}
	for i := range 8 {
		w.checkVerdicts("after the flood", map[string]pb.Verdict{fmt.Sprint("user", i): valid})
	}
	w.checkVerdicts("after the flood", map[string]pb.Verdict{"nobody29": badUser, "nobody0": unknown})
	for i := range 4 { // two rows each
		w.verify(fmt.Sprint("new", i), valid, selective, 97*time.Hour)
	}
	w.checkVerdicts("after better ones", map[string]pb.Verdict{"user0": unknown, "user7": valid, "new3": valid, "": selective})
	if n := w.keptVerdicts(); n < 9 || n > 10 {
		t.Errorf("%d verdicts are kept, 10 at most", n)
	}
	checkState(t, w.state)
}

// What goes depends on the log alone, and not on when a node was started.
func TestVerdictsGoAlikeAfterARestart(t *testing.T) {
	run := func(restart bool) *State {
		fs := vfs.NewMem()
		w := worldOf(t, mustOpen(t, crashDir, fs))
		w.configureVerifying()
		for i := range 20 {
			if restart && i%3 == 0 {
				if err := w.state.Close(); err != nil {
					t.Fatal(err)
				}
				w.state = mustOpen(t, crashDir, fs)
			}
			w.state.caps.verified = 8
			w.verify(fmt.Sprint("user", i*7%20), valid, selective, time.Duration(1+i*i%11)*time.Minute)
			w.now = w.now.Add(time.Duration(i) * time.Second)
		}
		checkState(t, w.state)
		return w.state
	}
	one, other := run(false), run(true)
	checkSameDigests(t, "with restarts", digestsOf(t, other), digestsOf(t, one))
	for _, s := range []*State{one, other} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
