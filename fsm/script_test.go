package fsm

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// script writes a random log that is valid more often than not. All its chance
// comes from pick, so that a log can be made again from its seed.
type script struct {
	t     tester
	pick  func(n int) int // from 0 to n-1
	index uint64
	term  uint64
	now   time.Time

	nodes       []*scriptNode
	incarnation uint64
	ids         []relay.MessageID
	uploads     []*scriptUpload
	claims      []*scriptClaim
	latest      bool // the last of them is meant
	attempts    uint64
	probes      map[string]uint64    // events about a destination's health so far
	bulks       []*pb.BulkProgressed // by bulk operation, what comes next
	configured  []uint64             // indexes at which the configuration may have changed
	revisions   map[string][]uint64  // at which a destination, domain or policy may have been set
}

type scriptNode struct {
	name         string
	incarnation  uint64
	active       bool
	next, lowest uint64
	sent         []scriptEvent
}

type scriptEvent struct {
	event   *pb.Event
	payload []byte
}

type scriptUpload struct {
	id    relay.MessageID
	parts [][]byte
}

type scriptClaim struct {
	ref        *pb.ClaimRef
	id         relay.MessageID
	recipients []uint32
}

func newScript(t tester, pick func(int) int) *script {
	return &script{
		t: t, pick: pick, index: 1, term: 1, now: time.Unix(1_700_000_000, 0), probes: make(map[string]uint64),
		revisions: make(map[string][]uint64),
		nodes:     []*scriptNode{{name: "a"}, {name: "b"}, {name: "c"}},
	}
}

// setup is the log's beginning: nodes, destinations and domains.
func (g *script) setup() []*raft.Log {
	configuration := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "127.0.0.1:1"}}}
	g.index++
	entries := []*raft.Log{{
		Index: g.index, Term: g.term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(configuration),
	}}
	var events []scriptEvent
	for _, n := range g.nodes[:2] {
		events = append(events, g.up(n))
	}
	for _, event := range []*pb.Event{
		destinationSet("dest"), destinationSet("other"),
		domainVerify("example.test", "dest", pb.Verify_VERIFY_CALLOUT), domainSet("other.test", "other"),
	} {
		events = append(events, g.send(g.nodes[0], event, nil))
	}
	return append(entries, g.pack(events))
}

// entry is the next entry, of one to four events.
func (g *script) entry() *raft.Log {
	g.now = g.now.Add(time.Duration(g.pick(5)) * time.Second)
	if g.pick(4) == 0 {
		return g.pack(g.course())
	}
	var events []scriptEvent
	for range 1 + g.pick(3) {
		events = append(events, g.event())
	}
	return g.pack(events)
}

func (g *script) pack(events []scriptEvent) *raft.Log {
	list, payloads := make([]*pb.Event, len(events)), make([][]byte, len(events))
	for i, e := range events {
		list[i], payloads[i] = e.event, e.payload
	}
	data, err := EncodeEntry(list, payloads)
	if err != nil {
		g.t.Fatalf("encode: %v", err)
	}
	g.index += 1 + uint64(g.pick(2)) // raft has entries of its own in between
	for i, event := range list {
		g.noteConfigured(event, payloads[i])
	}
	return &raft.Log{Index: g.index, Term: g.term, Type: raft.LogCommand, Data: data}
}

// send fills in the header of a new event of a node.
func (g *script) send(n *scriptNode, event *pb.Event, payload []byte) scriptEvent {
	n.next++
	if g.pick(4) == 0 {
		n.lowest += uint64(g.pick(int(n.next-n.lowest) + 1))
	}
	event.Incarnation, event.Sequence, event.LowestOpen = n.incarnation, n.next, n.lowest
	event.Time = g.now.UnixNano()
	e := scriptEvent{event, payload}
	n.sent = append(n.sent, e)
	return e
}

func (g *script) up(n *scriptNode) scriptEvent {
	g.incarnation++
	old := n.incarnation
	*n = scriptNode{name: n.name, incarnation: g.incarnation, active: true}
	return g.send(n, &pb.Event{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{
		Node: n.name, Incarnation: n.incarnation, Replaces: old,
	}}}, nil)
}

func (g *script) event() scriptEvent {
	n := g.nodes[g.pick(len(g.nodes))]
	if n.incarnation == 0 {
		n = g.nodes[0]
	}
	switch g.pick(54) {
	case 0, 1, 2, 3, 4, 5:
		return g.accept(n)
	case 6, 7, 8, 9, 10, 11:
		return g.claim(n)
	case 12, 13, 14:
		return g.delivered(n)
	case 15, 16:
		return g.failed(n)
	case 17:
		return g.bounced(n)
	case 18:
		switch g.pick(3) {
		case 0:
			return g.dropped(n)
		case 1:
			return g.warned(n)
		}
		return g.frozen(n)
	case 19:
		return g.released(n)
	case 20, 21:
		return g.appended(n)
	case 22:
		return g.finished(n)
	case 23:
		return g.abandoned(n)
	case 24:
		return g.aborted(n)
	case 25, 26:
		return g.again(n)
	case 27:
		return g.membership(n)
	case 28:
		return g.health(n)
	case 29:
		return g.retry(n)
	case 30:
		return g.configuration(n)
	case 31:
		return g.settings(n)
	case 32:
		return g.pruned(n)
	case 33:
		return g.service(n)
	case 34, 35, 36, 37, 38, 43:
		return g.operated(n)
	case 39:
		return g.left(n)
	case 40, 41:
		return g.bulkStarted(n)
	case 42:
		return g.bulkProgressed(n)
	case 44:
		return g.restored()
	case 45, 46, 47:
		return g.drill(n)
	case 49, 50, 51:
		return g.verified(n)
	case 52:
		return g.listed(n)
	case 48:
		return g.leaders(raised(uint32(g.pick(2))))
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_VerifyMarked{VerifyMarked: &pb.VerifyMarked{Nonce: []byte{byte(g.pick(256))}}}}, nil)
}

func (g *script) newID() relay.MessageID {
	id := relay.MessageID(append(relay.LowestMessageID(g.now)[:8], fmt.Appendf(nil, "%08d", len(g.ids))...))
	g.ids = append(g.ids, id)
	return id
}

// id is one of the latest messages, so that events meet.
func (g *script) id() relay.MessageID {
	if len(g.ids) == 0 {
		return relay.MessageID{1}
	}
	return g.ids[max(0, len(g.ids)-12)+g.pick(min(12, len(g.ids)))]
}

func (g *script) body() []byte {
	return bytes.Repeat([]byte{byte('a' + g.pick(26))}, []int{0, 10, 300, 6000}[g.pick(4)])
}

func (g *script) addresses() []string {
	all := []string{"one@example.test", "two@example.test", "Three@EXAMPLE.test", "four@other.test", "nobody@unknown.test"}
	to := []string{all[g.pick(4)]}
	for g.pick(3) == 0 {
		to = append(to, all[g.pick(len(all))])
	}
	return to
}

func (g *script) accept(n *scriptNode) scriptEvent {
	body := g.body()
	from := []string{"", "sender@elsewhere.test", "local@example.test"}[g.pick(3)]
	event := accepted(g.newID(), body, from, g.addresses()...)
	for _, r := range event.GetMessageAccepted().Recipients {
		r.Spam = g.pick(4) == 0
		if g.index%16 == 0 {
			r.Domain = relay.DefaultRoute
		}
	}
	return g.send(n, event, body)
}

func (g *script) claim(n *scriptNode) scriptEvent {
	e := &pb.AttemptStarted{}
	for range 1 + g.pick(3) {
		g.attempts++
		c := &scriptClaim{ref: ref(n.incarnation, g.attempts), id: g.id(), recipients: g.numbers()}
		g.claims = append(g.claims, c)
		e.Claims = append(e.Claims, &pb.AttemptStarted_Claim{
			Attempt: g.attempts, MessageId: c.id[:], Recipients: c.recipients,
			Destination: []string{"dest", "dest", "dest", "other"}[g.pick(4)], Probe: g.pick(2) == 0,
		})
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_AttemptStarted{AttemptStarted: e}}, nil)
}

func (g *script) numbers() []uint32 {
	return [][]uint32{{0}, {0}, {0}, {0, 1}, {0, 1, 2}, {1}, {1, 1, 0}}[g.pick(7)]
}

// lateClaim is a claim of lately, live or not.
func (g *script) lateClaim() *scriptClaim {
	if len(g.claims) == 0 {
		return &scriptClaim{ref: ref(1, 99), id: g.id(), recipients: []uint32{0}}
	}
	if g.latest {
		return g.claims[len(g.claims)-1]
	}
	return g.claims[max(0, len(g.claims)-6)+g.pick(min(6, len(g.claims)))]
}

func (g *script) delivered(n *scriptNode) scriptEvent {
	c := g.lateClaim()
	event := delivered(c.ref, c.id, c.recipients...)
	if g.pick(4) > 0 {
		return g.send(n, event, nil)
	}
	report, payload := g.report()
	event.GetDelivered().Report = report
	return g.send(n, event, payload)
}

func (g *script) failed(n *scriptNode) scriptEvent {
	c := g.lateClaim()
	event := deferred(c.ref, c.id, g.now.Add(time.Duration(g.pick(60))*time.Second), c.recipients...)
	event.GetAttemptFailed().Uncounted = g.pick(2) == 0
	event.GetAttemptFailed().Recipients[0].Failure.InDoubt = g.pick(3) == 0
	return g.send(n, event, nil)
}

func (g *script) bounced(n *scriptNode) scriptEvent {
	c := g.lateClaim()
	e := &pb.Bounced{Claim: c.ref, MessageId: c.id[:], Reason: pb.Bounced_REASON_REJECTED}
	if g.pick(3) == 0 {
		e.Claim = nil
		e.Reason = []pb.Bounced_Reason{pb.Bounced_REASON_EXPIRED, pb.Bounced_REASON_RETURNED}[g.pick(2)]
	}
	for _, number := range c.recipients {
		e.Recipients = append(e.Recipients, &pb.Bounced_Recipient{Recipient: number, Failure: g.refusal()})
	}
	var payload []byte
	if g.pick(3) > 0 {
		e.Report, payload = g.report()
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_Bounced{Bounced: e}}, payload)
}

func (g *script) frozen(n *scriptNode) scriptEvent {
	c := g.lateClaim()
	e := &pb.Frozen{Claim: c.ref, MessageId: c.id[:]}
	for _, number := range c.recipients {
		e.Recipients = append(e.Recipients, &pb.Frozen_Recipient{Recipient: number})
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_Frozen{Frozen: e}}, nil)
}

func (g *script) warned(n *scriptNode) scriptEvent {
	id := g.id()
	e := &pb.DelayWarned{MessageId: id[:], Recipients: g.numbers()}
	var payload []byte
	if g.pick(3) > 0 {
		e.Report, payload = g.report()
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_DelayWarned{DelayWarned: e}}, payload)
}

func (g *script) report() (*pb.Bounced_Report, []byte) {
	payload := []byte("report")
	id := g.newID()
	return &pb.Bounced_Report{MessageId: id[:], Content: &pb.Content{
		Size: uint64(len(payload)), Crc32C: crc32.Checksum(payload, castagnoli),
	}}, payload
}

func (g *script) dropped(n *scriptNode) scriptEvent {
	c := g.lateClaim()
	event := dropped(c.ref, c.id, c.recipients...)
	if g.pick(2) == 0 {
		event.GetDropped().Recipients[0].Failure = g.refusal()
	}
	return g.send(n, event, nil)
}

func dropped(claim *pb.ClaimRef, id relay.MessageID, recipients ...uint32) *pb.Event {
	e := &pb.Dropped{Claim: claim, MessageId: id[:], Reason: pb.Dropped_REASON_REJECTED}
	for _, number := range recipients {
		e.Recipients = append(e.Recipients, &pb.Dropped_Recipient{
			Recipient: number, Failure: &pb.Failure{Cause: "rejected", Phase: "dot", Code: 554, Text: "spam"},
		})
	}
	return &pb.Event{Kind: &pb.Event_Dropped{Dropped: e}}
}

func (g *script) released(n *scriptNode) scriptEvent {
	e := &pb.ClaimsReleased{}
	for range 1 + g.pick(2) {
		c := g.lateClaim()
		e.Claims = append(e.Claims, &pb.ClaimsReleased_Claim{
			Claim: c.ref, MessageId: c.id[:], Recipients: c.recipients, InDoubt: g.pick(2) == 0,
		})
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_ClaimsReleased{ClaimsReleased: e}}, nil)
}

func (g *script) upload() *scriptUpload {
	if len(g.uploads) == 0 || g.pick(4) == 0 {
		g.uploads = append(g.uploads, &scriptUpload{id: g.newID()})
	}
	return g.uploads[max(0, len(g.uploads)-3)+g.pick(min(3, len(g.uploads)))]
}

func (g *script) appended(n *scriptNode) scriptEvent {
	u := g.upload()
	piece := append(g.body(), 'x')
	number := uint32(len(u.parts))
	if g.pick(6) == 0 {
		number++ // leaves a gap
	} else {
		u.parts = append(u.parts, piece)
	}
	return g.send(n, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
		MessageId: u.id[:], Piece: number, Crc32C: crc32.Checksum(piece, castagnoli),
	}}}, piece)
}

func (g *script) finished(n *scriptNode) scriptEvent {
	u := g.upload()
	whole := bytes.Join(u.parts, nil)
	event := accepted(u.id, whole, "sender@elsewhere.test", g.addresses()...)
	event.GetMessageAccepted().Content.Pieces = uint32(len(u.parts))
	if len(u.parts) == 0 {
		return g.send(n, event, whole)
	}
	return g.send(n, event, nil)
}

func (g *script) abandoned(n *scriptNode) scriptEvent {
	u := g.upload()
	return g.send(n, &pb.Event{Kind: &pb.Event_ContentAbandoned{ContentAbandoned: &pb.ContentAbandoned{MessageId: u.id[:]}}}, nil)
}

func (g *script) aborted(n *scriptNode) scriptEvent {
	id := g.id()
	return g.send(n, aborted(id), nil)
}

func aborted(id relay.MessageID) *pb.Event {
	return &pb.Event{Kind: &pb.Event_AcceptanceAborted{AcceptanceAborted: &pb.AcceptanceAborted{MessageId: id[:]}}}
}

// again sends an event of lately once more, as after an unknown outcome.
func (g *script) again(n *scriptNode) scriptEvent {
	if len(n.sent) == 0 {
		return g.retry(n)
	}
	e := n.sent[max(0, len(n.sent)-8)+g.pick(min(8, len(n.sent)))]
	event := proto.Clone(e.event).(*pb.Event)
	event.LowestOpen = n.lowest
	return scriptEvent{event, e.payload}
}

func (g *script) membership(*scriptNode) scriptEvent {
	n := g.nodes[g.pick(len(g.nodes))]
	switch {
	case n.incarnation == 0 || g.pick(3) == 0:
		return g.up(n)
	case g.pick(2) == 0:
		n.active = false
		return g.leaders(&pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{
			Node: n.name, Incarnation: n.incarnation, Term: g.term - uint64(g.pick(4)/3),
		}}})
	}
	return g.leaders(&pb.Event{Kind: &pb.Event_NodeEligible{NodeEligible: &pb.NodeEligible{
		Node: n.name, Incarnation: n.incarnation,
	}}})
}

func (g *script) leaders(event *pb.Event) scriptEvent {
	event.Time = g.now.UnixNano()
	return scriptEvent{event, nil}
}

func (g *script) health(n *scriptNode) scriptEvent {
	probes := g.probes["dest"]
	if g.pick(2) == 0 {
		g.probes["dest"]++
	}
	if g.pick(3) > 0 { // or it would be down nearly always
		return g.send(n, &pb.Event{Kind: &pb.Event_DestinationRecovered{DestinationRecovered: &pb.DestinationRecovered{
			Name: "dest", Probes: probes,
		}}}, nil)
	}
	return g.send(n, destinationFailed("dest", probes, g.now.Add(time.Minute)), nil)
}

func destinationFailed(name string, probes uint64, next time.Time) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DestinationFailed{DestinationFailed: &pb.DestinationFailed{
		Name: name, Probes: probes, NextProbe: next.UnixNano(), Failure: &pb.Failure{Cause: "refused", Phase: "connect"},
	}}}
}

func (g *script) retry(n *scriptNode) scriptEvent {
	e := &pb.RetryRequested{Destination: []string{"dest", "nowhere"}[g.pick(2)]}
	return g.send(n, &pb.Event{Kind: &pb.Event_RetryRequested{RetryRequested: e}}, nil)
}

func (g *script) policy(n *scriptNode) scriptEvent {
	name := []string{"own", "own", "another", "month"}[g.pick(4)]
	if g.pick(3) == 0 {
		return g.send(n, policyRemoved(name), nil)
	}
	event := policySet(name, time.Duration(1+g.pick(9))*time.Hour)
	event.GetPolicySet().Policy.Revision = g.revision(name)
	return g.send(n, event, nil)
}

// drill begins or ends one, with what the settings say at the time.
func (g *script) drill(n *scriptNode) scriptEvent {
	id := string(rune('a' + g.pick(3)))
	if g.pick(3) == 0 {
		return g.send(n, &pb.Event{Kind: &pb.Event_DrillEnded{DrillEnded: &pb.DrillEnded{Id: id}}}, nil)
	}
	lasts := time.Duration(g.pick(20)) * time.Second
	return g.send(n, &pb.Event{Kind: &pb.Event_DrillStarted{DrillStarted: &pb.DrillStarted{
		Id: id, Fault: pb.Fault(g.pick(6)), Node: n.name, Duration: int64(lasts),
		Until: g.now.Add(lasts + time.Duration(g.pick(3)-1)*time.Minute).UnixNano(),
	}}}, nil)
}

// pruned looks from a time at which the retention of some messages is over.
func (g *script) pruned(n *scriptNode) scriptEvent {
	before := g.now.Add(-time.Duration(g.pick(20)) * time.Second)
	e := g.send(n, historyPruned(before), nil)
	e.event.Time = before.Add(31 * 24 * time.Hour).UnixNano()
	return e
}

func historyPruned(before time.Time) *pb.Event {
	return &pb.Event{Kind: &pb.Event_HistoryPruned{HistoryPruned: &pb.HistoryPruned{Before: before.UnixNano()}}}
}

// fold applies entries as one batch and insists that it takes effect.
func fold(t tester, s *State, entries ...*raft.Log) []*Applied {
	t.Helper()
	var results []*Applied
	for i, response := range s.ApplyBatch(entries) {
		applied, ok := response.(*Applied)
		if !ok {
			t.Fatalf("apply of index %d: %v", entries[i].Index, response)
		}
		results = append(results, applied)
	}
	return results
}

// persist does what raft does for a snapshot of its own.
func persist(s *State, index, term uint64) error {
	snapshot, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer snapshot.Release()
	configuration, configurationIndex := s.Configuration()
	sink, err := s.Snapshots().Create(raft.SnapshotVersionMax, index, term, configuration, configurationIndex, nil)
	if err != nil {
		return err
	}
	if err := snapshot.Persist(sink); err != nil {
		return errorOf(err, sink.Cancel())
	}
	return sink.Close()
}

// receive does what raft does to bring a follower up to its leader's state, up
// to the point where it calls Restore.
func receive(from, to *State) (name string, err error) {
	meta, stream, err := from.Snapshots().Open(liveID)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	sink, err := to.Snapshots().Create(meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
	if err != nil {
		return "", err
	}
	n, err := io.Copy(sink, stream)
	if err == nil && n != meta.Size {
		err = fmt.Errorf("%d bytes, announced %d", n, meta.Size)
	}
	if err != nil {
		return "", errorOf(err, sink.Cancel())
	}
	return sink.ID(), sink.Close()
}

func installFrom(from, to *State) error {
	name, err := receive(from, to)
	if err != nil {
		return err
	}
	_, stream, err := to.Snapshots().Open(name)
	if err != nil {
		return err
	}
	defer stream.Close()
	return to.Restore(stream)
}
