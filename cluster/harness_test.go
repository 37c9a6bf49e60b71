package cluster

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/rand"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testTiming is fast enough for tests and slow enough for a busy machine.
func testTiming() Timing {
	return Timing{
		Heartbeat: 250 * time.Millisecond, LeaderLease: 200 * time.Millisecond,
		Commit: 10 * time.Millisecond, RPC: 2 * time.Second,
		Lease: 900 * time.Millisecond, Ping: 100 * time.Millisecond, Margin: 300 * time.Millisecond,
		Verify: 40 * time.Millisecond, Lag: time.Second, Eligible: time.Second,
		Poll: 250 * time.Millisecond, Stable: 200 * time.Millisecond, Store: 20 * time.Second,
	}
}

// world is a set of nodes in this process, with real files and sockets.
type world struct {
	t        testing.TB
	net      *network
	names    []string
	nodes    map[string]*testNode
	logStore string
	steady   bool // leadership stays where it is, however busy the machine
	adjust   func(*Config)
	opened   func(*testNode, *Cluster) // before Run
}

// testNode is a node that may run; its addresses and folder outlast a stop.
type testNode struct {
	w           *world
	name        string
	dir         string
	raft, admin string
	join        []string
	expect      int
	disk        vfs.FS       // nil for the real one
	ahead       atomic.Int64 // of its wall clock, nanoseconds; outlasts a stop too

	state   *fsm.State
	cluster *Cluster
	fatal   chan error
	cancel  context.CancelFunc
	server  *grpc.Server
	ran     chan struct{}
	wg      sync.WaitGroup
}

// newWorld prepares the first members of a cluster.
func newWorld(t testing.TB, names ...string) *world {
	w := &world{t: t, net: newNetwork(t), names: names, nodes: map[string]*testNode{}, logStore: LogStoreWAL}
	var join []string
	for _, name := range names {
		join = append(join, w.add(name).admin)
	}
	for _, name := range names {
		w.nodes[name].join, w.nodes[name].expect = join, len(names)
	}
	return w
}

// steadyWorld is a world whose leader stays: for tests that another one would lead
// astray.
func steadyWorld(t testing.TB, names ...string) *world {
	w := newWorld(t, names...)
	w.steady = true
	return w
}

func (w *world) add(name string) *testNode {
	n := &testNode{w: w, name: name, dir: w.t.TempDir(), raft: freeAddress(w.t), admin: freeAddress(w.t)}
	w.net.own(n.raft, name)
	w.net.own(n.admin, name)
	w.nodes[name] = n
	w.t.Cleanup(n.stop)
	return n
}

// given has the addresses that tests under way were given: most are bound later.
var given sync.Map

// freeAddress is below the range from which connections get their own ports: a
// node that is started again must find its port free. test/harness and node take
// theirs from 19000 on.
func freeAddress(t testing.TB) string {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+mathrand.IntN(9_000))
		if _, taken := given.LoadOrStore(address, t.Name()); taken {
			continue
		}
		t.Cleanup(func() { given.Delete(address) })
		if l, err := net.Listen("tcp", address); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("CLUSTER_LOG") == "" {
		return slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("test", t.Name())
}

func (n *testNode) config() (Config, error) {
	registry := prometheus.NewRegistry()
	logger := testLogger(n.w.t).With("on", n.name)
	n.fatal = make(chan error, 16)
	fatal := func(err error) {
		select {
		case n.fatal <- err:
		default:
		}
	}
	state, err := fsm.Open(fsm.Config{
		Dir: filepath.Join(n.dir, "state"), Node: n.name, Logger: logger, Metrics: registry, Fatal: fatal, FS: n.disk,
	})
	if err != nil {
		return Config{}, err
	}
	n.state = state
	cfg := Config{
		Node: n.name, DataDir: n.dir, RaftListener: listen(n.w.t, n.raft), AdminAdvertise: n.admin,
		SMTPAddress: "127.0.0.1:0", Version: "test", LogStore: n.w.logStore,
		BootstrapExpect: n.expect, Join: n.join,
		State: state, Logger: logger, Metrics: registry, Fatal: fatal,
		DialPeer: n.w.net.dialer(n.name), Timing: testTiming(), Now: n.now,
	}
	if n.w.steady {
		cfg.Timing.Heartbeat, cfg.Timing.LeaderLease = 2*time.Second, 2*time.Second
	}
	if n.w.adjust != nil {
		n.w.adjust(&cfg)
	}
	return cfg, nil
}

func (n *testNode) now() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) }

// open opens the node's data without running it.
func (n *testNode) open() (*Cluster, error) {
	cfg, err := n.config()
	if err != nil {
		return nil, err
	}
	c, err := Open(cfg)
	if err != nil {
		cfg.RaftListener.Close()
		n.state.Close()
	}
	return c, err
}

func (n *testNode) start() *testNode {
	n.w.t.Helper()
	c, err := n.open()
	if err != nil {
		n.w.t.Fatalf("start %s: %v", n.name, err)
	}
	n.cluster = c
	if n.w.opened != nil {
		n.w.opened(n, c)
	}
	n.server = grpc.NewServer(c.ServerOptions()...)
	c.RegisterPeer(n.server)
	listener := listen(n.w.t, n.admin)
	ctx, cancel := context.WithCancel(n.w.t.Context())
	n.cancel = cancel
	n.wg.Go(func() {
		if err := n.server.Serve(listener); err != nil {
			n.w.t.Errorf("serve %s: %v", n.name, err)
		}
	})
	n.ran = make(chan struct{})
	n.wg.Go(func() {
		defer close(n.ran)
		if err := c.Run(ctx); err != nil {
			n.w.t.Errorf("run %s: %v", n.name, err)
		}
	})
	return n
}

func (n *testNode) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	select { // Run first: it hands leadership over
	case <-n.ran:
	case <-time.After(20 * time.Second):
		panic("node " + n.name + " does not stop")
	}
	n.server.Stop()
	n.wg.Wait()
	if err := n.state.Close(); err != nil {
		n.w.t.Errorf("close the state of %s: %v", n.name, err)
	}
}

func (n *testNode) wipe() {
	n.w.t.Helper()
	if err := os.RemoveAll(n.dir); err != nil {
		n.w.t.Fatal(err)
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		n.w.t.Fatal(err)
	}
}

func (w *world) startAll() {
	w.t.Helper()
	for _, name := range w.names {
		w.nodes[name].start()
	}
	if w.steady && len(w.names) > 1 {
		w.elect(w.names[0], w.names[1])
	}
}

// elect has a node stand for election at another one's word, as a transfer of
// leadership does, and not only when it has heard of no leader for long.
func (w *world) elect(name, by string) {
	w.t.Helper()
	n, other := w.nodes[name].cluster, w.nodes[by].cluster
	eventually(w.t, name+" knows who votes", func() bool { return other.raft.Load() != nil && len(n.configuration()) > 0 })
	order := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
	target := raft.ServerAddress(raftAddress(n.raftID, w.nodes[name].raft))
	if err := other.transport.TimeoutNow(raft.ServerID(n.raftID), target, order, &raft.TimeoutNowResponse{}); err != nil {
		w.t.Fatalf("%s has %s stand for election: %v", by, name, err)
	}
}

// eventually polls: what it waits for is the state of several processes.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (w *world) awaitLeased(names ...string) {
	w.t.Helper()
	for _, name := range names {
		eventually(w.t, name+" holds a lease", func() bool { return w.nodes[name].cluster.Leased() })
	}
}

// leader waits for one that has a lease and that all the named nodes know.
func (w *world) leader(names ...string) *testNode {
	w.t.Helper()
	var leader string
	eventually(w.t, "a leader", func() bool {
		leader, _ = w.nodes[names[0]].cluster.Leader()
		return slices.Contains(names, leader) && !slices.ContainsFunc(names, func(name string) bool {
			known, _ := w.nodes[name].cluster.Leader()
			return known != leader
		})
	})
	return w.nodes[leader]
}

func (w *world) others(name string) []string {
	return slices.DeleteFunc(slices.Clone(w.names), func(other string) bool { return other == name })
}

func (n *testNode) propose(event *pb.Event, payload []byte) error {
	ctx, cancel := context.WithTimeout(n.w.t.Context(), 20*time.Second)
	defer cancel()
	result, index, err := n.cluster.Propose(ctx, event, payload)
	if err != nil {
		return err
	}
	if result.Code != pb.EventResult_CODE_OK {
		return fmt.Errorf("%v: %s", result.Code, result.Text)
	}
	return n.state.WaitApplied(ctx, index)
}

// accept proposes acceptances of one body, eight at a time as sessions would.
func (n *testNode) accept(messages int, body []byte) {
	n.w.t.Helper()
	var sessions errgroup.Group
	sessions.SetLimit(8)
	for range messages {
		event := message(n.w.t, body)
		sessions.Go(func() error { return n.propose(event, body) })
	}
	if err := sessions.Wait(); err != nil {
		n.w.t.Fatalf("%s: %v", n.name, err)
	}
}

func (n *testNode) must(event *pb.Event, payload []byte) {
	n.w.t.Helper()
	if err := n.propose(event, payload); err != nil {
		n.w.t.Fatalf("%s proposes %T: %v", n.name, event.Kind, err)
	}
}

func (n *testNode) configure() {
	n.w.t.Helper()
	n.must(&pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{
		Destination: &pb.DestinationConfig{Name: "dest", Slots: 20, Tls: "none", Hosts: []*pb.DestinationConfig_Host{{Address: "127.0.0.1:25"}}},
	}}}, nil)
	n.must(&pb.Event{Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{
		Domain: &pb.DomainConfig{Name: "example.test", Destination: "dest", Policy: "five-day"},
	}}}, nil)
}

func message(t testing.TB, body []byte) *pb.Event {
	id, err := relay.NewMessageID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &pb.Event{Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: "s@elsewhere.test"},
		Recipients: []*pb.Recipient{{Address: "r@example.test"}},
		Content:    &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))},
	}}}
}

var testBody = []byte("Subject: test\r\n\r\nHello.\r\n")

// pending counts the recipients that a node's state has.
func (n *testNode) pending() int {
	n.w.t.Helper()
	view, err := n.state.View()
	if err != nil {
		n.w.t.Fatal(err)
	}
	defer view.Close()
	return int(view.Counters().Pending)
}

// checkEqual compares the states of the named nodes by their digests.
func (w *world) checkEqual(names ...string) {
	w.t.Helper()
	nonce := []byte(rand.Text())
	asker := w.nodes[names[0]]
	asker.must(&pb.Event{Kind: &pb.Event_VerifyMarked{VerifyMarked: &pb.VerifyMarked{Nonce: nonce}}}, nil)
	var first string
	for _, name := range names {
		var digests *pb.DigestResponse
		eventually(w.t, "digests of "+name, func() bool {
			var err error
			digests, err = asker.cluster.Digests(w.t.Context(), nonce, name)
			return err == nil
		})
		if damages := digests.QuickCheck.GetDamages(); len(damages) > 0 {
			w.t.Errorf("the rows of %s: %v", name, damages)
		}
		digests.QuickCheck = nil // each has its own time
		if first == "" {
			first = digests.String()
		} else if got := digests.String(); got != first {
			w.t.Errorf("digests of %s:\n%s\nof %s:\n%s", name, got, names[0], first)
		}
	}
}
