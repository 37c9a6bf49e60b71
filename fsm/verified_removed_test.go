package fsm

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	pb "holdfast/proto/holdfast/v1"
)

// However many verdicts a domain has, its removal touches none of them. The domain
// made anew knows nothing of them, has a share of its own, and they go when they are
// over.
func TestRemovedDomainLeavesItsVerdicts(t *testing.T) {
	w := newVerifying(t)
	w.state.caps.verifiedOfDomain = 4
	know := func(names ...string) {
		for _, name := range names {
			w.verify(name, valid, unknown, time.Hour)
		}
	}
	know("ann", "bob", "carl", "dora")
	if c := w.view().DomainCounter("example.test"); c.Verified != 4 {
		t.Errorf("verified are %d", c.Verified)
	}
	w.must(1, domainRemoved("example.test"), nil)
	if n, c := w.keptVerdicts(), w.view().DomainCounter("example.test"); n != 4 || c.Verified != 0 {
		t.Errorf("of the removed domain %d rows are kept and %d are counted, want all and none", n, c.Verified)
	}
	checkState(t, w.state)

	w.must(1, domainVerify("example.test", "dest", callout), nil)
	w.checkVerdicts("made anew", map[string]pb.Verdict{"ann": unknown, "dora": unknown})
	w.now = w.now.Add(-time.Second)
	know("ann") // an earlier word than the forgotten one
	w.now = w.now.Add(time.Second)
	know("emil", "fritz", "gerd")
	w.checkVerdicts("with a share of its own", map[string]pb.Verdict{"ann": valid, "bob": unknown, "emil": valid, "gerd": valid})
	know("hans")
	w.checkVerdicts("beyond its share", map[string]pb.Verdict{"hans": unknown, "ann": valid})
	if n := w.keptVerdicts(); n != 4+3 {
		t.Errorf("%d verdicts are kept, want those of both", n)
	}
	checkState(t, w.state)

	w.now = w.now.Add(time.Hour)
	for range 3 {
		w.verify("ann", valid, unknown, time.Hour)
		w.now = w.now.Add(time.Second)
	}
	if n, c := w.keptVerdicts(), w.view().DomainCounter("example.test"); n != 1 || c.Verified != 1 {
		t.Errorf("%d rows are kept and %d counted after an hour, want one", n, c.Verified)
	}
	checkState(t, w.state)
}

// A delivery doesn't bring back what was known before the domain was removed.
func TestDeliveryKeepsNothingForgotten(t *testing.T) {
	w := newVerifying(t)
	w.verify("Ann", badUser, unknown, time.Hour)
	w.must(1, domainRemoved("example.test"), nil)
	w.must(1, domainVerify("example.test", "dest", callout), nil)
	id := w.accept(1, "Ann@example.test")
	w.must(1, claimOf(1, id, 0), nil)
	w.must(1, delivered(ref(1, 1), id, 0), nil)
	w.checkVerdicts("after a delivery", map[string]pb.Verdict{"Ann": unknown})
	checkState(t, w.state)
}

// A domain that goes and comes back within an entry gets nothing that was asked of the
// one before: what is of the entry's index is of both. How many entries are applied at
// once makes no difference.
func TestDomainMadeAnewWithinAnEntry(t *testing.T) {
	run := func(atOnce bool) *State {
		w := newVerifying(t)
		w.verify("ann", valid, selective, time.Hour)
		first := w.entryOf(
			w.verdict("bob", valid, unknown, time.Hour), domainRemoved("example.test"),
			domainVerify("example.test", "dest", callout), w.verdict("carl", valid, selective, time.Hour),
			w.verdict("ann", valid, unknown, time.Hour))
		second := w.entryOf(w.verdict("dora", valid, unknown, time.Hour), w.verdict("ann", badUser, unknown, time.Hour))
		if atOnce {
			w.state.ApplyBatch([]*raft.Log{first, second})
		} else {
			fold(t, w.state, first, second)
		}
		w.checkVerdicts("made anew", map[string]pb.Verdict{"ann": badUser, "bob": unknown, "carl": unknown, "dora": valid, "": unknown})
		checkState(t, w.state)
		return w.state
	}
	checkSameDigests(t, "entries at once", digestsOf(t, run(true)), digestsOf(t, run(false)))
}

// entryOf is an entry with several events of the first incarnation.
func (w *world) entryOf(events ...*pb.Event) *raft.Log {
	w.t.Helper()
	for _, event := range events {
		w.header(1, event)
	}
	return w.entry(events, make([][]byte, len(events)))
}
