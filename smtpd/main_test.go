package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster stands for the rest of a node: it keeps pieces and messages the way
// the log would, and lets a test step in before.
type cluster struct {
	// before is called ahead of each event; an error is Propose's answer, a
	// result too. Set it before the server starts.
	before func(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, error)
	// matches stands for password.Matches, where it isn't nil.
	matches func(hash, given string) bool

	mu       sync.Mutex // guards what follows
	domains  map[string]bool
	configs  map[string]*pb.DomainConfig // of those that have more than a name
	accounts map[string]*pb.AccountRecord
	networks []netip.Prefix
	closed   *relay.Reply
	pieces   map[string][][]byte
	aborted  map[string]bool
	messages map[string]*stored
	order    []string
	changed  chan struct{} // closed and replaced with each event
	events   []*pb.Event
}

type stored struct {
	*pb.MessageAccepted
	body []byte
}

func newCluster() *cluster {
	return &cluster{
		domains:  map[string]bool{"example.org": true, "xn--bcher-kva.example": true},
		pieces:   map[string][][]byte{},
		aborted:  map[string]bool{},
		messages: map[string]*stored{},
		changed:  make(chan struct{}),
	}
}

func (c *cluster) Domain(name string) (*pb.DomainConfig, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if config, ok := c.configs[name]; ok {
		return config, true
	}
	return &pb.DomainConfig{Name: name}, c.domains[name]
}

func (c *cluster) Queued(name string) (messages, bytes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.messages {
		for _, r := range m.Recipients {
			if domainOf(r) == name {
				messages++
				bytes += m.Content.Size
				break
			}
		}
	}
	return messages, bytes
}

func (c *cluster) Account(name string) (*pb.AccountRecord, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	record, ok := c.accounts[name]
	return record, ok
}

func (c *cluster) HasAccounts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.accounts) > 0
}

func (c *cluster) InRelayNetwork(client netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.networks, func(n netip.Prefix) bool { return n.Contains(client) })
}

func (c *cluster) setNetworks(networks ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.networks = nil
	for _, text := range networks {
		c.networks = append(c.networks, netip.MustParsePrefix(text))
	}
}

func (c *cluster) setDomain(name string, configured bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.domains[name] = configured
}

func (c *cluster) Configured() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.domains) > 0
}

func (c *cluster) Check() *relay.Reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *cluster) setGate(r *relay.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = r
}

func (c *cluster) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if event.Time == 0 {
		return nil, errors.New("event without a time")
	}
	if c.before != nil {
		if result, err := c.before(ctx, event, payload); result != nil || err != nil {
			return result, err
		}
	}
	return c.apply(event, payload), nil
}

func (c *cluster) apply(event *pb.Event, payload []byte) *pb.EventResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event)
	close(c.changed)
	c.changed = make(chan struct{})
	result := func(code pb.EventResult_Code) *pb.EventResult { return &pb.EventResult{Code: code} }
	switch kind := event.Kind.(type) {
	case *pb.Event_ContentAppended:
		appended := kind.ContentAppended
		id := string(appended.MessageId)
		if crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)) != appended.Crc32C || len(payload) > 256<<10 {
			return result(pb.EventResult_CODE_INVALID)
		}
		for len(c.pieces[id]) <= int(appended.Piece) {
			c.pieces[id] = append(c.pieces[id], nil)
		}
		c.pieces[id][appended.Piece] = bytes.Clone(payload)
	case *pb.Event_MessageAccepted:
		accepted := kind.MessageAccepted
		id := string(accepted.MessageId)
		if c.aborted[id] {
			return result(pb.EventResult_CODE_ABORTED)
		}
		body := bytes.Clone(payload)
		if accepted.Content.Pieces > 0 {
			body = bytes.Join(c.pieces[id], nil)
		}
		if uint64(len(body)) != accepted.Content.Size || crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != accepted.Content.Crc32C || len(c.pieces[id]) != int(accepted.Content.Pieces) {
			return result(pb.EventResult_CODE_INCOMPLETE)
		}
		delete(c.pieces, id)
		c.messages[id] = &stored{accepted, body}
		c.order = append(c.order, id)
	case *pb.Event_AcceptanceAborted:
		id := string(kind.AcceptanceAborted.MessageId)
		c.aborted[id] = true
		delete(c.messages, id)
	case *pb.Event_ContentAbandoned:
		delete(c.pieces, string(kind.ContentAbandoned.MessageId))
	default:
		return result(pb.EventResult_CODE_INVALID)
	}
	return result(pb.EventResult_CODE_OK)
}

// seen returns the events that came into the log.
func (c *cluster) seen() []*pb.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// accepted returns the messages there are, in the order of the log.
func (c *cluster) accepted() []*stored {
	c.mu.Lock()
	defer c.mu.Unlock()
	var messages []*stored
	for _, id := range c.order {
		if m := c.messages[id]; m != nil {
			messages = append(messages, m)
		}
	}
	return messages
}

// waitFor waits until a condition on the cluster's state holds, looking again
// after each event.
func (c *cluster) waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		c.mu.Lock()
		holds, changed := condition(), c.changed
		c.mu.Unlock()
		if holds {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// harness is a server on a socket of its own.
type harness struct {
	*cluster
	server   *Server
	registry *prometheus.Registry
	address  string
	logs     *lockedBuffer
	stop     context.CancelFunc
	done     chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t testing.TB, change func(*Config, *cluster)) *harness {
	t.Helper()
	h := &harness{cluster: newCluster(), registry: prometheus.NewRegistry(), logs: &lockedBuffer{}, done: make(chan error, 1)}
	cfg := DefaultConfig()
	cfg.Hostname, cfg.Node = "mx.example.net", "a"
	cfg.Proposer, cfg.Directory, cfg.Gate = h.cluster, h.cluster, h.cluster
	cfg.Registerer = h.registry
	cfg.Logger = slog.New(slog.NewTextHandler(h.logs, nil))
	if change != nil {
		change(&cfg, h.cluster)
	}
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if h.matches != nil {
		server.guesses.matches = h.matches
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.server, h.address = server, listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	go func() { h.done <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-h.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := h.metric(t, "holdfast_smtpd_body_buffers"); n != 0 {
			t.Errorf("%v body buffers are still lent after the end", n)
		}
		if n := h.metric(t, "holdfast_smtpd_session_panics_total"); n != 0 {
			t.Errorf("%v sessions panicked: %s", n, h.logs)
		}
	})
	return h
}

// metric is the sum of a counter's or gauge's values.
func (h *harness) metric(t testing.TB, name string) float64 {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		found = true
		for _, m := range family.Metric {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		t.Fatalf("no metric %s", name)
	}
	return sum
}

// client is a connection to the server on which the test speaks SMTP.
type client struct {
	t  testing.TB
	nc net.Conn
	br *bufio.Reader
}

func (h *harness) dial(t testing.TB) *client {
	t.Helper()
	nc, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &client{t, nc, bufio.NewReader(nc)}
}

// greeted is a connection after EHLO.
func (h *harness) greeted(t testing.TB) *client {
	t.Helper()
	c := h.dial(t)
	c.want("220 ")
	c.send("EHLO client.example\r\n")
	c.want("250-")
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, text); err != nil {
		c.t.Fatalf("send %.60q: %v", text, err)
	}
}

// reply reads one reply, all its lines.
func (c *client) reply() (lines []string, err error) {
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			return lines, err
		}
		lines = append(lines, strings.TrimSuffix(line, "\r\n"))
		if len(line) > 3 && line[3] == ' ' {
			return lines, nil
		}
	}
}

// want reads one reply and checks how it begins.
func (c *client) want(prefix string) string {
	c.t.Helper()
	lines, err := c.reply()
	if err != nil {
		c.t.Fatalf("want %q, got %q and %v", prefix, lines, err)
	}
	text := strings.Join(lines, "\n")
	if !strings.HasPrefix(text, prefix) {
		c.t.Fatalf("want %q, got %q", prefix, text)
	}
	return text
}

// wantClosed checks that the server has nothing more to say.
func (c *client) wantClosed() {
	c.t.Helper()
	rest, err := io.ReadAll(c.br)
	if err != nil && !strings.Contains(err.Error(), "reset by peer") || len(rest) > 0 {
		c.t.Fatalf("want the connection closed, got %q and %v", rest, err)
	}
}

// ask sends a command and checks the reply.
func (c *client) ask(command, prefix string) string {
	c.t.Helper()
	c.send(command + "\r\n")
	return c.want(prefix)
}

// envelope brings a transaction up to the content.
func (c *client) envelope() {
	c.t.Helper()
	c.ask("MAIL FROM:<a@example.com>", "250 ")
	c.ask("RCPT TO:<b@example.org>", "250 ")
}

// withoutReceived cuts the server's own trace header off a stored body.
func withoutReceived(t *testing.T, body []byte) string {
	t.Helper()
	lines := strings.SplitAfter(string(body), "\r\n")
	if !strings.HasPrefix(lines[0], "Received: ") {
		t.Fatalf("no Received header in %.200q", body)
	}
	end := 1 + slices.IndexFunc(lines[1:], func(line string) bool { return !strings.HasPrefix(line, "\t") })
	return strings.Join(lines[end:], "")
}

// text makes a message of some size in lines.
func text(size int) string {
	line := "Subject: x\r\n\r\n"
	var b strings.Builder
	b.WriteString(line)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%070d\r\n", i)
	}
	return b.String()
}
