package delivery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// node is a member of a test's cluster: its state, its lease, and a Scheduler
// while it runs.
type node struct {
	w         *world
	name      string
	disk      *disk
	state     *fsm.State
	scheduler *Scheduler
	dials     atomic.Int64
	latest    atomic.Pointer[watchedConn]
	noRoute   atomic.Bool // to any mail server
	noNames   atomic.Bool // from DNS

	stopRun context.CancelFunc
	done    chan struct{} // closed when Run has returned

	mu          sync.Mutex // guards the fields below
	incarnation uint64
	leased      bool
	changed     chan struct{} // closed and replaced at a change of the lease
}

func (w *world) addNode(name string) *node {
	n := &node{w: w, name: name, disk: &disk{FS: vfs.NewMem()}, changed: make(chan struct{})}
	n.state = n.open()
	w.nodes[name] = n
	w.log.states = append(w.log.states, n.state)
	return n
}

func (n *node) open() *fsm.State {
	n.w.t.Helper()
	state, err := fsm.Open(fsm.Config{
		Dir: "state", Node: n.name, FS: errorfs.Wrap(n.disk.FS, n.disk),
		// Nothing ticks, so that weeks of synctest's time take no time.
		Compactions: pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest(),
		Logger:      slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Fatal: func(err error) { n.w.t.Errorf("node %s: %v", n.name, err) },
	})
	must(n.w.t, err)
	return state
}

func (n *node) config() Config {
	return Config{
		Node: n.name, Hostname: n.name + ".relay.test", State: n.state, Proposer: n, Lease: n,
		Dialer: &smtpout.Dialer{
			LocalName: n.name + ".relay.test", Now: n.w.clock.now, Timeouts: n.w.timeouts, Resolver: nodeResolver{n.w.resolver, n},
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				n.dials.Add(1)
				if n.noRoute.Load() {
					return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EHOSTUNREACH}
				}
				address = cmp.Or(n.w.dialTo[address], address)
				if n.w.dial != nil {
					return n.w.dial(ctx, network, address)
				}
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				watched := &watchedConn{TCPConn: conn.(*net.TCPConn)}
				n.latest.Store(watched)
				return watched, nil
			},
		},
		Now: n.w.clock.now, Chance: rand.Float64,
		Logger: slog.New(slog.NewTextHandler(&n.w.logs, nil)), Metrics: prometheus.NewRegistry(),
		Grace: n.w.grace, Timing: n.w.timing,
	}
}

// nodeResolver is the world's, unless the node is cut off from it.
type nodeResolver struct {
	smtpout.Resolver
	n *node
}

func (r nodeResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if r.n.noNames.Load() {
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	}
	return r.Resolver.LookupNetIP(ctx, network, host)
}

// run starts the node's Scheduler.
func (n *node) run() {
	n.w.t.Helper()
	scheduler, err := New(n.config())
	must(n.w.t, err)
	n.runWith(scheduler)
}

func (n *node) runWith(scheduler *Scheduler) {
	n.scheduler = scheduler
	ctx, cancel := context.WithCancel(context.Background())
	n.stopRun, n.done = cancel, make(chan struct{})
	go func() {
		defer close(n.done)
		if err := scheduler.Run(ctx); err != nil {
			n.w.t.Errorf("node %s: %v", n.name, err)
		}
	}()
}

// look has the scheduler, which runs, call f on its own goroutine.
func (n *node) look(f func(s *Scheduler)) {
	looked := make(chan struct{})
	n.scheduler.done <- func() {
		n.scheduler.active++ // finish takes one off
		f(n.scheduler)
		close(looked)
	}
	<-looked
}

// stop ends the Scheduler and waits for it.
func (n *node) stop() {
	if n.done == nil {
		return
	}
	n.stopRun()
	<-n.done
	n.done = nil
}

// up starts a new incarnation, with a lease.
func (n *node) up() {
	n.w.t.Helper()
	record, _ := n.state.Node(n.name)
	next := n.w.newIncarnation()
	n.w.must(next, &pb.Event{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{
		Node: n.name, Incarnation: next, Replaces: record.GetIncarnation(),
	}}}, nil)
	n.set(next, true)
}

// down is what a leader does about a node that is silent.
func (n *node) down() {
	n.w.t.Helper()
	n.w.must(0, &pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{
		Node: n.name, Incarnation: n.Incarnation(), Term: testTerm,
	}}}, nil)
}

func (n *node) eligible() {
	n.w.t.Helper()
	n.w.must(0, &pb.Event{Kind: &pb.Event_NodeEligible{NodeEligible: &pb.NodeEligible{
		Node: n.name, Incarnation: n.Incarnation(),
	}}}, nil)
}

func (n *node) set(incarnation uint64, leased bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.incarnation, n.leased = incarnation, leased
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *node) lose()   { n.set(n.Incarnation(), false) }
func (n *node) regain() { n.set(n.Incarnation(), true) }

func (n *node) Leased() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leased
}

func (n *node) LeaseChanged() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

func (n *node) Incarnation() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.incarnation
}

var errEnded = errors.New("the incarnation has ended")

// Propose blocks while the node has no incarnation, as package cluster does.
func (n *node) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	for n.Incarnation() == 0 {
		changed := n.LeaseChanged()
		if n.Incarnation() != 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	if ctx.Err() != nil {
		return nil, 0, ctx.Err()
	}
	result, index := n.w.log.propose(n.Incarnation(), event, payload)
	if result.Code == pb.EventResult_CODE_NOT_ACTIVE {
		return nil, 0, errEnded
	}
	return result, index, nil
}

// watchedConn knows whether the client waits for the reply to what it wrote last.
type watchedConn struct {
	*net.TCPConn
	writes, answered atomic.Int64 // answered: the writes before the latest read
}

func (c *watchedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.TCPConn.Write(p)
}

func (c *watchedConn) Read(p []byte) (int, error) {
	c.answered.Store(c.writes.Load())
	return c.TCPConn.Read(p)
}

// awaitAcknowledged waits until the kernel on the other side has all that the
// latest connection sent, and the client knows that it has sent it: before that a
// lost lease resets it.
func (n *node) awaitAcknowledged() {
	n.w.t.Helper()
	n.w.await("all octets are acknowledged", func() bool {
		conn := n.latest.Load()
		if conn.answered.Load() != conn.writes.Load() {
			return false
		}
		raw, err := conn.SyscallConn()
		must(n.w.t, err)
		queued, errno := int32(-1), syscall.Errno(0)
		must(n.w.t, raw.Control(func(fd uintptr) {
			_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&queued)))
		}))
		return errno == 0 && queued == 0
	})
}

// counted reads a counter of the node's Scheduler.
func (n *node) counted(c prometheus.Counter) float64 {
	var m dto.Metric
	must(n.w.t, c.Write(&m))
	return m.Counter.GetValue()
}

// clock is the time of day, put forward where a test says so.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }
