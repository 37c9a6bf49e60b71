package fsm

import (
	"fmt"
	"hash/crc32"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// world folds events into a state the way raft would: one entry an event, with
// indexes, terms and sequences of its own. Its clock is a number.
type world struct {
	t     testing.TB
	state *State
	index uint64
	term  uint64
	now   time.Time

	sequences map[uint64]uint64
	ids       uint64
	pieces    uint32 // of an upload
	attempts  uint64
}

func newWorld(t testing.TB) *world { return worldOf(t, openState(t, t.TempDir(), nil)) }

func worldOf(t testing.TB, state *State) *world {
	return &world{
		t: t, state: state, term: 1, index: 1, now: time.Unix(1_700_000_000, 0),
		sequences: make(map[uint64]uint64),
	}
}

// tester is what the tests have in common with rapid's.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func openState(t testing.TB, dir string, fs vfs.FS) *State {
	t.Helper()
	state := mustOpen(t, dir, fs)
	t.Cleanup(func() {
		if err := state.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return state
}

// mustOpen opens a state that the caller closes.
func mustOpen(t tester, dir string, fs vfs.FS) *State {
	t.Helper()
	state, err := Open(stateConfig(t, dir, fs))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return state
}

func stateConfig(t tester, dir string, fs vfs.FS) Config {
	return Config{
		Dir: dir, Node: "a", FS: fs,
		Logger:  slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(),
		Fatal:   func(err error) { t.Errorf("fatal: %v", err) },
	}
}

// entry makes the next raft entry.
func (w *world) entry(events []*pb.Event, payloads [][]byte) *raft.Log {
	w.t.Helper()
	data, err := EncodeEntry(events, payloads)
	if err != nil {
		w.t.Fatal(err)
	}
	w.index++
	return &raft.Log{Index: w.index, Term: w.term, Type: raft.LogCommand, Data: data}
}

// header fills in what a proposer adds.
func (w *world) header(incarnation uint64, event *pb.Event) *pb.Event {
	event.Incarnation = incarnation
	event.Time = w.now.UnixNano()
	if incarnation != 0 && event.Sequence == 0 {
		w.sequences[incarnation]++
		event.Sequence = w.sequences[incarnation]
	}
	return event
}

func (w *world) fold(incarnation uint64, event *pb.Event, payload []byte) *pb.EventResult {
	w.t.Helper()
	response := w.state.Apply(w.entry([]*pb.Event{w.header(incarnation, event)}, [][]byte{payload}))
	applied, ok := response.(*Applied)
	if !ok {
		w.t.Fatalf("apply: %v", response)
	}
	return applied.Results[0]
}

func (w *world) must(incarnation uint64, event *pb.Event, payload []byte) {
	w.t.Helper()
	if r := w.fold(incarnation, event, payload); r.Code != pb.EventResult_CODE_OK {
		w.t.Fatalf("%T: %v %s", event.Kind, r.Code, r.Text)
	}
}

// up starts an incarnation of a node.
func (w *world) up(node string, incarnation, replaces uint64) {
	w.t.Helper()
	w.must(incarnation, &pb.Event{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{
		Node: node, Incarnation: incarnation, Replaces: replaces,
	}}}, nil)
}

func (w *world) down(node string, incarnation uint64) *pb.EventResult {
	w.t.Helper()
	return w.fold(0, &pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{
		Node: node, Incarnation: incarnation, Term: w.term,
	}}}, nil)
}

// configure sets up destination dest for domain example.test.
func (w *world) configure(incarnation uint64) {
	w.t.Helper()
	w.must(incarnation, destinationSet("dest"), nil)
	w.must(incarnation, domainSet("example.test", "dest"), nil)
}

func destinationSet(name string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{
		Destination: &pb.DestinationConfig{
			Name: name, Slots: 20, Tls: "none",
			Hosts: []*pb.DestinationConfig_Host{{Address: "127.0.0.1:25"}},
		},
	}}}
}

// renewed makes a change of what is set at present.
func (w *world) renewed(event *pb.Event) *pb.Event {
	switch kind := event.Kind.(type) {
	case *pb.Event_DestinationSet:
		present, _ := w.state.Destination(kind.DestinationSet.Destination.Name)
		kind.DestinationSet.Destination.Revision = present.GetConfig().GetRevision()
	case *pb.Event_DomainSet:
		present, _ := w.state.Domain(kind.DomainSet.Domain.Name)
		kind.DomainSet.Domain.Revision = present.GetRevision()
	case *pb.Event_PolicySet:
		present, _ := lookup(w.state.published().policies, kind.PolicySet.Policy.Name)
		kind.PolicySet.Policy.Revision = present.GetRevision()
	}
	return event
}

func domainSet(name, destination string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{
		Domain: &pb.DomainConfig{Name: name, Destination: destination, Policy: "five-day"},
	}}}
}

func policySet(name string, retention time.Duration) *pb.Event {
	return &pb.Event{Kind: &pb.Event_PolicySet{PolicySet: &pb.PolicySet{Policy: PolicyConfig(relay.Policy{
		Name: name, Retention: retention, MaxAttempts: 20, WarnAfter: retention / 2, Jitter: 0.125,
		Phases: []relay.RetryPhase{{Until: time.Hour, Every: time.Minute, Factor: 1.5}},
	})}}}
}

func policyRemoved(name string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_PolicyRemoved{PolicyRemoved: &pb.PolicyRemoved{Name: name}}}
}

func (w *world) newID() relay.MessageID {
	w.ids++
	id := relay.MessageID(append(relay.LowestMessageID(w.now)[:8], fmt.Appendf(nil, "%08d", w.ids)...))
	return id
}

func accepted(id relay.MessageID, body []byte, from string, to ...string) *pb.Event {
	var recipients []*pb.Recipient
	for _, address := range to {
		recipients = append(recipients, &pb.Recipient{Address: address})
	}
	return &pb.Event{Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: from}, Recipients: recipients,
		Content: &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, castagnoli)},
		Origin:  &pb.Origin{Node: "a"},
	}}}
}

var testBody = []byte("Subject: test\r\n\r\nHello.\r\n")

func (w *world) accept(incarnation uint64, to ...string) relay.MessageID {
	w.t.Helper()
	id := w.newID()
	w.must(incarnation, accepted(id, testBody, "sender@elsewhere.test", to...), testBody)
	return id
}

func claimOf(attempt uint64, id relay.MessageID, recipients ...uint32) *pb.Event {
	return &pb.Event{Kind: &pb.Event_AttemptStarted{AttemptStarted: &pb.AttemptStarted{
		Claims: []*pb.AttemptStarted_Claim{{
			Attempt: attempt, MessageId: id[:], Recipients: recipients, Destination: "dest",
		}},
	}}}
}

func ref(incarnation, attempt uint64) *pb.ClaimRef {
	return &pb.ClaimRef{Incarnation: incarnation, Attempt: attempt}
}

func delivered(claim *pb.ClaimRef, id relay.MessageID, recipients ...uint32) *pb.Event {
	e := &pb.Delivered{Claim: claim, MessageId: id[:]}
	for _, n := range recipients {
		e.Recipients = append(e.Recipients, &pb.Delivered_Recipient{Recipient: n, Code: 250, Text: "ok"})
	}
	return &pb.Event{Kind: &pb.Event_Delivered{Delivered: e}}
}

func deferred(claim *pb.ClaimRef, id relay.MessageID, next time.Time, recipients ...uint32) *pb.Event {
	e := &pb.AttemptFailed{Claim: claim, MessageId: id[:]}
	for _, n := range recipients {
		e.Recipients = append(e.Recipients, &pb.AttemptFailed_Recipient{
			Recipient: n, NextAttempt: next.UnixNano(),
			Failure: &pb.Failure{Cause: "deferred", Phase: "rcpt", Code: 450, Text: "later"},
		})
	}
	return &pb.Event{Kind: &pb.Event_AttemptFailed{AttemptFailed: e}}
}

// view opens a view that closes with the test.
func (w *world) view() *View {
	w.t.Helper()
	v, err := w.state.View()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := v.Close(); err != nil {
			w.t.Errorf("close view: %v", err)
		}
	})
	return v
}

// recipientOf reads a recipient as it is now.
func (w *world) recipientOf(id relay.MessageID, number uint32) *pb.RecipientRecord {
	w.t.Helper()
	v, err := w.state.View()
	if err != nil {
		w.t.Fatal(err)
	}
	defer v.Close()
	rec, err := v.Recipient(id, number)
	if err != nil {
		w.t.Fatalf("recipient %d of %s: %v", number, id, err)
	}
	return rec
}

// waiting lists what waits for a destination, lane by lane.
func (w *world) waiting(destination string) []Due {
	w.t.Helper()
	var all []Due
	for lane := range Lanes {
		due, err := w.state.Waiting(destination, lane, nil, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, due...)
	}
	return all
}

// checkConsistent recomputes what is kept incrementally from the rows.
func (w *world) checkConsistent() {
	w.t.Helper()
	checkConsistent(w.t, w.state)
}

func checkConsistent(t tester, s *State) {
	t.Helper()
	gen, err := s.acquire()
	if err != nil {
		t.Fatalf("acquire: %v", err)
	}
	defer gen.release()
	var scanned digests
	err = scan(gen.db, nil, func(key, value []byte) error {
		hash := rowHash(key, value)
		if family(key[0]) == famContent {
			hash = contentHash(key, uint32(len(value)), crc32.Checksum(value, castagnoli))
		}
		scanned.add(key, hash)
		return nil
	})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	for _, f := range replicated {
		if scanned[f.family] != s.digests[f.family] {
			t.Errorf("digest of %s: kept %+v, scanned %+v", f.name, s.digests[f.family], scanned[f.family])
		}
	}
}

// configureCluster folds a raft configuration, without which there is no snapshot.
func (w *world) configureCluster() {
	w.index++
	configuration := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "127.0.0.1:1"}}}
	fold(w.t, w.state, &raft.Log{
		Index: w.index, Term: w.term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(configuration),
	})
}
