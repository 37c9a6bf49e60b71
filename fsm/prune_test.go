package fsm

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/race"
)

const retention = 30 * 24 * time.Hour

// deliver ends recipients of a message.
func (w *world) deliver(id relay.MessageID, recipients ...uint32) {
	w.t.Helper()
	w.must(1, delivered(nil, id, recipients...), nil)
}

func (w *world) prune(before time.Time) *pb.EventResult {
	w.t.Helper()
	r := w.fold(1, historyPruned(before), nil)
	checkState(w.t, w.state)
	return r
}

func (w *world) exists(id relay.MessageID) bool {
	w.t.Helper()
	v, err := w.state.View()
	if err != nil {
		w.t.Fatal(err)
	}
	defer v.Close()
	_, err = v.Message(id)
	return err == nil
}

// The log loses what ended before the retention, and nothing else.
func TestPruneSparesWhatIsOpen(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	done := w.accept(1, "x@example.test")
	half := w.accept(1, "x@example.test", "y@example.test")
	pending := w.accept(1, "x@example.test")
	w.deliver(done, 0)
	w.deliver(half, 0)
	frozenID := w.accept(1, "x@example.test")
	w.must(1, &pb.Event{Kind: &pb.Event_Frozen{Frozen: &pb.Frozen{
		MessageId: frozenID[:], Recipients: []*pb.Frozen_Recipient{{Recipient: 0}},
	}}}, nil)
	w.now = w.now.Add(time.Hour)
	young := w.accept(1, "x@example.test")
	w.deliver(young, 0)

	w.now = w.now.Add(retention)
	if any, err := w.state.HasEndedBefore(w.now.Add(-retention)); !any || err != nil {
		t.Errorf("nothing has ended before: %v", err)
	}
	if r := w.prune(w.now.Add(-retention)); r.Code != pb.EventResult_CODE_OK {
		t.Fatalf("%v %s", r.Code, r.Text)
	}
	for id, want := range map[relay.MessageID]bool{done: false, half: true, pending: true, frozenID: true, young: true} {
		if w.exists(id) != want {
			t.Errorf("message %s: there %v, want %v", id, !want, want)
		}
	}
	if ids, _, err := w.view().Log(Filter{To: "x@example.test"}, nil, 10); err != nil || len(ids) != 4 {
		t.Errorf("the log finds %d messages, %v", len(ids), err)
	}
	if c := w.view().DomainCounter("example.test"); c.Delivered != 3 || c.PrunedDelivered != 1 || c.Pending != 2 {
		t.Errorf("counters: %v", c)
	}
	if r := w.prune(w.now.Add(-retention)); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("a second time: %v", r)
	}
	if any, _ := w.state.HasEndedBefore(w.now.Add(-retention)); any {
		t.Error("something is left that ended before")
	}
}

// What is left of the past after pruning is whole, and says where it begins.
func TestPruneForgetsThePast(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	for range 20 {
		w.deliver(w.accept(1, "x@example.test"), 0)
		w.must(1, destinationFailed("dest", w.probes("dest"), w.now), nil)
		w.must(1, w.renewed(destinationSet("dest")), nil)
		w.now = w.now.Add(24 * time.Hour)
	}
	for i := range maxSwept { // so many that what is before dest is all that pruning looks at
		w.must(1, destinationSet(fmt.Sprintf("a%03d", i)), nil)
	}
	w.now = w.now.Add(20 * 24 * time.Hour) // the first ten days are out
	if r := w.prune(w.now.Add(-retention)); r.Code != pb.EventResult_CODE_OK {
		t.Fatalf("%v %s", r.Code, r.Text)
	}
	v := w.view()
	begin := v.Forgotten()
	if begin == 0 || begin >= w.index {
		t.Fatalf("the past begins at %d of %d", begin, w.index)
	}
	if _, _, err := v.Follow(Position{Index: begin - 1}, 10); !errors.Is(err, ErrForgotten) {
		t.Errorf("follow from before: %v", err)
	}
	if rows, _, err := v.Follow(Position{Index: begin}, 100); err != nil || len(rows) != 18 {
		t.Errorf("follow from there: %d rows, %v", len(rows), err)
	}
	if _, err := v.IndexAt(w.now.Add(-retention - 24*time.Hour)); !errors.Is(err, ErrForgotten) {
		t.Errorf("a time before: %v", err)
	}
	if err := w.view().Rewind(begin - 1); !errors.Is(err, ErrForgotten) {
		t.Errorf("rewound to before: %v", err)
	}
	if err := v.Rewind(begin); err != nil {
		t.Errorf("rewound to there: %v", err)
	}
	kept := func() int {
		n := 0
		_ = scan(w.view().snap, pastPrefix(keyOfName(famDestinations, "dest")), func(_, _ []byte) error {
			n++
			return nil
		})
		return n
	}
	before := kept()
	for range 20 {
		w.must(1, destinationFailed("dest", w.probes("dest"), w.now), nil)
	}
	if after := kept(); after >= before+20 {
		t.Errorf("the past of a destination goes from %d to %d rows", before, after)
	}
	checkState(t, w.state)
}

// tablePasts are the rows of the past of configuration from before an index, and the
// rest of them.
func (w *world) tablePasts(index uint64) (before, after int) {
	w.t.Helper()
	v, err := w.state.View()
	if err != nil {
		w.t.Fatal(err)
	}
	defer v.Close()
	err = scanFrom(v.snap, pastPrefix(nil), pastPrefix([]byte{byte(famRecipients)}), func(key, _ []byte) error {
		if isBeforeRetention(key, index) {
			before++
		} else {
			after++
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return before, after
}

// What was removed never changes again: its past goes as the log is pruned, piece by
// piece, and no other's does.
func TestPruneForgetsWhatWasRemoved(t *testing.T) {
	fs := vfs.NewMem()
	w := worldOf(t, mustOpen(t, crashDir, fs))
	defer func() {
		if err := w.state.Close(); err != nil {
			t.Error(err)
		}
	}()
	w.up("a", 1, 0)
	w.configure(1)
	for i := range maxSwept {
		name := fmt.Sprintf("old-%03d.test", i)
		w.must(1, domainSet(name, "dest"), nil)
		w.must(1, domainRemoved(name), nil)
	}
	w.must(1, domainSet("kept.test", "dest"), nil)
	for range 3 { // what a pruning takes
		w.deliver(w.accept(1, "x@example.test"), 0)
		w.now = w.now.Add(time.Hour)
	}
	w.now = w.now.Add(24 * time.Hour)
	var moments []moment
	for i := range 20 {
		name := fmt.Sprintf("young-%03d.test", i/2)
		if i%2 == 0 {
			w.must(1, domainSet(name, "dest"), nil)
		} else {
			w.must(1, domainRemoved(name), nil)
		}
		moments = append(moments, withView(t, w.state, func(v *View) moment { return momentOf(t, v, nil) }))
	}
	all, _ := w.tablePasts(moments[0].index)
	if all <= 2*maxSwept {
		t.Fatalf("the past has %d rows", all)
	}
	w.now = w.now.Add(retention - 24*time.Hour)
	for i := 2; i >= 0; i-- { // the last takes what the first began
		if r := w.prune(w.now.Add(-retention - time.Duration(i)*time.Hour - time.Minute)); r.Code != pb.EventResult_CODE_OK {
			t.Fatalf("%v %s", r.Code, r.Text)
		}
		if err := w.state.Close(); err != nil {
			t.Fatal(err)
		}
		w.state = mustOpen(t, crashDir, fs) // it goes on after a restart
	}
	forgotten := withView(t, w.state, (*View).Forgotten)
	before, after := w.tablePasts(forgotten)
	if forgotten <= maxSwept || before > 0 || after < len(moments)-1 {
		t.Errorf("forgotten is what was before index %d: %d of %d rows are left, and %d behind it", forgotten, before, all, after)
	}
	for _, want := range moments {
		compareMoments(t, withView(t, w.state, func(v *View) moment {
			if err := v.Rewind(want.index); err != nil {
				t.Fatalf("rewind to %d: %v", want.index, err)
			}
			return momentOf(t, v, nil)
		}), want, nil)
	}
	checkState(t, w.state)
}

func (w *world) probes(destination string) uint64 {
	record, _ := w.state.Destination(destination)
	return record.GetHealth().GetProbes()
}

// Whoever proposes too early, by a wrong clock or an old setting, prunes nothing.
func TestPruneKeepsTheRetention(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "x@example.test")
	w.deliver(id, 0)
	w.now = w.now.Add(10 * 24 * time.Hour)
	for _, before := range []time.Time{w.now, w.now.Add(-retention + time.Nanosecond), w.now.Add(time.Hour), time.Unix(0, 0)} {
		if r := w.prune(before); r.Code != pb.EventResult_CODE_INVALID {
			t.Errorf("before %v: %v", before, r)
		}
	}
	w.must(1, settingsChanged(&pb.Settings{LogRetention: proto.Int64(int64(24 * time.Hour))}), nil)
	if r := w.prune(w.now.Add(-24 * time.Hour)); r.Code != pb.EventResult_CODE_OK || w.exists(id) {
		t.Errorf("with a retention of a day: %v", r)
	}
}

// An event removes at most 1,000 records; a long history goes before its message.
func TestPruneInPieces(t *testing.T) {
	race.Sequential(t)
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	long := w.accept(1, "x@example.test")
	for attempt := range uint64(1200) {
		w.must(1, claimOf(attempt+1, long, 0), nil)
		w.must(1, deferred(ref(1, attempt+1), long, w.now, 0), nil)
	}
	w.deliver(long, 0)
	var to []string
	for i := range 1000 {
		to = append(to, fmt.Sprintf("r%d@example.test", i))
	}
	wide := w.accept(1, to...)
	var numbers []uint32
	for i := range to {
		numbers = append(numbers, uint32(i))
	}
	w.deliver(wide, numbers...)
	for range 400 {
		w.deliver(w.accept(1, "x@example.test"), 0)
	}
	w.now = w.now.Add(retention + time.Second)
	before := w.now.Add(-retention)
	rows := func() (n uint64) {
		for _, d := range digestsOf(t, w.state) {
			switch d.Family {
			case "history", "messages", "recipients", "past":
				n += d.Rows
			}
		}
		return n
	}
	events := 0
	for left := rows(); ; events++ {
		r := w.prune(before)
		if r.Code == pb.EventResult_CODE_STALE {
			break
		}
		now := rows()
		if gone := left - now; gone == 0 || gone > maxPruned+1 {
			t.Fatalf("event %d removed %d records: %v", events, gone, r)
		}
		left = now
	}
	if rows() != 0 {
		t.Errorf("%d records are left after %d events", rows(), events)
	}
	if events < 4 {
		t.Errorf("only %d events", events)
	}
}

func TestSettings(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	if got := w.state.Settings(); !reflect.DeepEqual(got, relay.DefaultSettings()) {
		t.Errorf("settings of a new cluster: %+v", got)
	}
	w.must(1, settingsChanged(&pb.Settings{LogRetention: proto.Int64(int64(48 * time.Hour))}), nil)
	w.must(1, settingsChanged(&pb.Settings{DrillConsent: proto.Bool(true)}), nil)
	want := relay.DefaultSettings()
	want.LogRetention, want.DrillConsent = 48*time.Hour, true
	if got := w.state.Settings(); !reflect.DeepEqual(got, want) {
		t.Errorf("settings %+v, want %+v", got, want)
	}
	for _, wrong := range []*pb.Settings{
		{LogRetention: proto.Int64(int64(time.Hour))}, {DeleteGrace: proto.Int64(-1)},
		{MaxMessageSize: proto.Int64(1)}, {FrozenAge: proto.Int64(0)}, {WarnOldest: proto.Int64(-5)},
		{Postmaster: proto.String("postmaster")}, {Postmaster: proto.String("a b@example.test")}, {Postmaster: proto.String("ä@example.test")},
		{Postmaster: proto.String("anna@*")}, {Postmaster: proto.String("*@example.test")},
		{RelayNetworks: &pb.RelayNetworks{Networks: []string{"192.0.2.1", "::/0"}}},
	} {
		if r := w.fold(1, settingsChanged(wrong), nil); r.Code != pb.EventResult_CODE_INVALID || r.Text == "" {
			t.Errorf("%v: %v", wrong, r)
		}
	}
	if got := w.view().Settings(); !reflect.DeepEqual(got, want) {
		t.Errorf("after refusals: %+v", got)
	}
	checkState(t, w.state)
}

// A postmaster is of a domain that there is, whichever way either of them changes.
func TestPostmasterHasADomain(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.must(1, destinationSet("dest"), nil)
	w.must(1, domainSet("one.test", "dest"), nil)
	w.must(1, domainSet("two.test", "dest"), nil)
	postmaster := func(address string) *pb.Settings { return &pb.Settings{Postmaster: proto.String(address)} }
	want := func(code pb.EventResult_Code, r *pb.EventResult) {
		t.Helper()
		if r.Code != code || r.Text == "" {
			t.Errorf("%v, want %v", r, code)
		}
	}
	want(pb.EventResult_CODE_UNROUTABLE, w.fold(1, settingsChanged(postmaster("help@none.test")), nil))
	want(pb.EventResult_CODE_UNROUTABLE, w.apply(1, &pb.ConfigurationChange{Settings: postmaster("help@none.test")}))
	w.must(1, settingsChanged(postmaster("help@ONE.test")), nil)
	removal := &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "one.test"}}}
	want(pb.EventResult_CODE_IN_USE, w.fold(1, proto.CloneOf(removal), nil))
	pruned := []string{"one.test"}
	want(pb.EventResult_CODE_UNROUTABLE, w.apply(1, &pb.ConfigurationChange{RemovedDomains: pruned}))
	if r := w.apply(1, &pb.ConfigurationChange{RemovedDomains: pruned, Settings: postmaster("help@two.test")}); r.Code != pb.EventResult_CODE_OK {
		t.Errorf("with another one: %v", r)
	}
	checkState(t, w.state)
}
