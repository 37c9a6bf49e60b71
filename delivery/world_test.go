package delivery

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"math"
	"net"
	"testing"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// world is a cluster without raft: nodes over one log, their schedulers, and
// mail servers as destinations.
type world struct {
	t        testing.TB
	ctx      context.Context
	log      *testLog
	nodes    map[string]*node
	clock    clock
	timing   Timing
	timeouts smtpout.Timeouts
	grace    time.Duration
	resolver smtpout.Resolver
	dialTo   map[string]string // other addresses to dial in place of some
	logs     lockedBuffer      // of the schedulers
	// dial makes connections in place of real ones, where it is set.
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	ids          uint64
	incarnations uint64
}

// newWorld has nodes that are up and leased, and whose schedulers don't run yet.
func newWorld(t testing.TB, names ...string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	w := &world{
		t: t, ctx: ctx, nodes: make(map[string]*node),
		timing:   Timing{HostDelay: 20 * time.Millisecond},
		timeouts: smtpout.Timeouts{Quit: time.Second},
		grace:    5 * time.Second,
	}
	w.log = &testLog{
		w: w, sequences: make(map[uint64]uint64), maxClaims: make(map[string]int),
	}
	t.Cleanup(func() {
		cancel()
		w.end()
	})
	for _, name := range names {
		w.addNode(name)
	}
	for _, name := range names {
		w.nodes[name].up()
	}
	return w
}

// end stops everything. No test may leave a message that was missed.
func (w *world) end() {
	for _, n := range w.nodes {
		n.stop()
		if n.scheduler != nil && n.counted(n.scheduler.metrics.missed) != 0 {
			w.t.Errorf("node %s missed due messages", n.name)
		}
	}
	for _, n := range w.nodes {
		must(w.t, n.state.Close())
	}
}

func (w *world) runAll() {
	w.t.Helper()
	for _, n := range w.nodes {
		n.run()
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) newIncarnation() uint64 {
	w.incarnations++
	return w.incarnations
}

func (w *world) must(incarnation uint64, event *pb.Event, payload []byte) {
	w.t.Helper()
	if event.Time == 0 {
		event.Time = w.clock.now().UnixNano()
	}
	if r, _ := w.log.propose(incarnation, event, payload); r.Code != pb.EventResult_CODE_OK {
		w.t.Fatalf("%T: %v %s", event.Kind, r.Code, r.Text)
	}
}

// any is an incarnation in which a test may propose.
func (w *world) any() uint64 {
	for _, n := range w.nodes {
		if record, _ := n.state.Node(n.name); record.GetActive() {
			return record.Incarnation
		}
	}
	w.t.Fatal("no node is up")
	return 0
}

// sink starts a mail server.
func (w *world) sink(config sink.Config) *sink.Server {
	w.t.Helper()
	server, err := sink.Start(config)
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, server.Close()) })
	return server
}

// route sets up a destination for a domain; without hosts it is there already.
func (w *world) route(domain, destination string, slots uint32, hosts ...string) {
	w.t.Helper()
	if len(hosts) > 0 {
		w.destination(destination, slots, hosts...)
	}
	w.setDomain(&pb.DomainConfig{Name: domain, Destination: destination, Policy: relay.DefaultPolicy})
}

// setDomain creates or changes a domain.
func (w *world) setDomain(config *pb.DomainConfig) {
	w.t.Helper()
	present, _ := w.observer().Domain(config.Name)
	config.Revision = present.GetRevision()
	w.must(w.any(), &pb.Event{Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{Domain: config}}}, nil)
}

// follow gives a domain a policy.
func (w *world) follow(domain, destination, policy string) {
	w.t.Helper()
	w.setDomain(&pb.DomainConfig{Name: domain, Destination: destination, Policy: policy})
}

// probeMax keeps outages short in tests.
const probeMax = 40 * time.Millisecond

func (w *world) destination(name string, slots uint32, hosts ...string) {
	w.t.Helper()
	config := &pb.DestinationConfig{Name: name, Slots: slots, Tls: string(relay.TLSNone), ProbeMax: int64(probeMax)}
	for i, host := range hosts {
		config.Hosts = append(config.Hosts, &pb.DestinationConfig_Host{Address: host, Priority: uint32(i), Weight: 1})
	}
	w.set(config)
}

// set creates or changes a destination.
func (w *world) set(config *pb.DestinationConfig) {
	w.t.Helper()
	present, _ := w.observer().Destination(config.Name)
	config.Revision = present.GetConfig().GetRevision()
	w.must(w.any(), &pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: config}}}, nil)
}

const testSender = "sender@origin.test"

// accept files a short message, whose id is also its X-Test-Id.
func (w *world) accept(from string, to ...string) relay.MessageID {
	w.t.Helper()
	return w.acceptBody(from, "Hello.\r\n", to...)
}

func (w *world) acceptBody(from, text string, to ...string) relay.MessageID {
	w.t.Helper()
	event, payload := w.acceptance(from, text, to...)
	w.must(w.any(), event, payload)
	return relay.MessageID(event.GetMessageAccepted().MessageId)
}

// acceptance is what files a message; pieces of a long one are stored by then.
func (w *world) acceptance(from, text string, to ...string) (event *pb.Event, payload []byte) {
	w.t.Helper()
	w.ids++
	id := relay.MessageID(append(relay.LowestMessageID(w.clock.now())[:8], fmt.Appendf(nil, "%08d", w.ids)...))
	body := fmt.Appendf(nil, "Subject: test\r\nX-Test-Id: %s\r\n\r\n%s", id, text)
	content := &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, castagnoli)}
	incarnation := w.any()
	payload = body
	if len(body) > fsm.MaxPiece {
		payload = nil
		for len(body) > 0 {
			piece := body[:min(len(body), fsm.MaxPiece)]
			w.must(incarnation, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
				MessageId: id[:], Piece: content.Pieces, Crc32C: crc32.Checksum(piece, castagnoli),
			}}}, piece)
			content.Pieces++
			body = body[len(piece):]
		}
	}
	var recipients []*pb.Recipient
	for _, address := range to {
		recipients = append(recipients, &pb.Recipient{Address: address})
	}
	return &pb.Event{Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: from}, Recipients: recipients,
		Content: content, Origin: &pb.Origin{},
	}}}, payload
}

// acceptMany files n messages to one recipient each.
func (w *world) acceptMany(n int, domain string) []relay.MessageID {
	w.t.Helper()
	ids := make([]relay.MessageID, n)
	for i := range ids {
		ids[i] = w.accept(testSender, fmt.Sprintf("user%d@%s", i, domain))
	}
	return ids
}

// await waits until done is true.
func (w *world) await(what string, done func() bool) {
	w.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if done() {
			return
		}
		select {
		case <-ticker.C:
		case <-w.ctx.Done():
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// observer is a node whose state a test reads: all are alike.
func (w *world) observer() *fsm.State { return w.log.states[0] }

func (w *world) recipient(id relay.MessageID, number uint32) *pb.RecipientRecord {
	w.t.Helper()
	v, err := w.observer().View()
	must(w.t, err)
	defer v.Close()
	record, err := v.Recipient(id, number)
	must(w.t, err)
	return record
}

func (w *world) counter(destination string) *pb.CounterRecord {
	w.t.Helper()
	v, err := w.observer().View()
	must(w.t, err)
	defer v.Close()
	return v.DestinationCounter(destination)
}

func (w *world) history(id relay.MessageID) []*pb.HistoryRecord {
	w.t.Helper()
	v, err := w.observer().View()
	must(w.t, err)
	defer v.Close()
	rows, err := v.History(id, fsm.Position{}, math.MaxInt)
	must(w.t, err)
	var records []*pb.HistoryRecord
	for _, row := range rows {
		records = append(records, row.Record)
	}
	return records
}

func (w *world) health(destination string) *pb.DestinationHealth {
	record, _ := w.observer().Destination(destination)
	return record.GetHealth()
}

func (w *world) owner(destination string) *node {
	name, _ := w.observer().Owner(destination)
	return w.nodes[name]
}

func (w *world) claims(destination string) int { return w.observer().ForeignClaims(destination, 0) }

// awaitDelivered waits until n recipients of a destination are delivered and
// no claim is left.
func (w *world) awaitDelivered(destination string, n uint64) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d recipients delivered at %s", n, destination), func() bool {
		return w.counter(destination).Delivered == n && w.claims(destination) == 0
	})
}

func (w *world) awaitState(id relay.MessageID, number uint32, state pb.RecipientState) *pb.RecipientRecord {
	w.t.Helper()
	w.await(fmt.Sprintf("recipient %d of %s is %s", number, id, state), func() bool {
		return w.recipient(id, number).State == state
	})
	return w.recipient(id, number)
}

// checkOnce wants each message at the sink exactly once.
func (w *world) checkOnce(ids []relay.MessageID, sinks ...*sink.Server) {
	w.t.Helper()
	for _, id := range ids {
		n := 0
		for _, s := range sinks {
			n += s.IDs()[id.String()]
		}
		if n != 1 {
			w.t.Errorf("message %s was delivered %d times", id, n)
		}
	}
}

// longText is content of several chunks.
var longText = string(bytes.Repeat([]byte("0123456789abcdef0123456789abcdef0123456789abcdef\r\n"), 12_000))
