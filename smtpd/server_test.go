package smtpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func addrOf(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func sizeOf(m proto.Message) int { return proto.Size(m) }

// waitForMetric looks again and again until a metric has a value.
func waitForMetric(t *testing.T, h *harness, name string, want float64) {
	t.Helper()
	lookUntil(t, fmt.Sprintf("%s is %v", name, want), func() bool { return h.metric(t, name) == want })
}

func lookUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(10 * time.Second)
	for !is() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// allStopping reports whether every session that is left knows of the stop.
func (h *harness) allStopping() bool {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	for c := range h.server.conns {
		if !c.isStopping() {
			return false
		}
	}
	return true
}

func TestReceivedOfIPv6(t *testing.T) {
	got := string(receivedHeader(&pb.Origin{Helo: "c", Protocol: "ESMTPS"}, addrOf(t, "2001:db8::1"), "mx", [16]byte{},
		[]*pb.Recipient{{Address: "a@x"}, {Address: "b@x"}}, time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)))
	want := "Received: from c ([IPv6:2001:db8::1])\r\n\tby mx with ESMTPS id 00000000000000000000000000;\r\n\tTue, 02 Jan 2024 03:04:05 +0000\r\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestConnectionLimits(t *testing.T) {
	h := start(t, func(cfg *Config, _ *cluster) { cfg.MaxConnections, cfg.MaxConnectionsPerClient = 4, 3 })
	var clients []*client
	for range 3 {
		clients = append(clients, h.greeted(t))
	}
	c := h.dial(t)
	c.want("421 4.7.0 ")
	c.wantClosed()
	// From another address there is one left.
	from := func(ip string) *client {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		nc, err := dialer.Dial("tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return &client{t, nc, bufio.NewReader(nc)}
	}
	other := from("127.0.0.2")
	other.want("220 ")
	full := from("127.0.0.3")
	full.want("421 4.3.2 ")
	full.wantClosed()
	clients[0].ask("QUIT", "221 ")
	clients[0].wantClosed()
	other.ask("QUIT", "221 ")
	other.wantClosed()
	waitForMetric(t, h, "holdfast_smtpd_connections", 2)
	h.greeted(t)
}

func TestTooManyErrors(t *testing.T) {
	h := start(t, func(cfg *Config, _ *cluster) { cfg.MaxErrors = 3 })
	c := h.greeted(t)
	c.ask("FROB", "500 5.5.1 ")
	c.ask("MAIL FROM:<a@example.com>", "250 ")
	c.ask("RCPT TO:<b@elsewhere.example>", "550 5.7.1 ")
	c.send("FROB\r\nNOOP\r\nNOOP\r\n")
	c.want("500 5.5.1 ")
	c.want("421 4.7.0 ")
	c.wantClosed()
}

// A relay that sends for days has a wrong recipient now and then.
func TestErrorsAreForgivenWithAMessage(t *testing.T) {
	h := start(t, func(cfg *Config, _ *cluster) { cfg.MaxErrors = 3 })
	c := h.greeted(t)
	for range 3 {
		c.ask("FROB", "500 5.5.1 ")
		c.ask("FROB", "500 5.5.1 ")
		c.envelope()
		c.ask("DATA", "354 ")
		c.send("x\r\n.\r\n")
		c.want("250 ")
	}
}

func TestTooManyCommands(t *testing.T) {
	h := start(t, func(cfg *Config, _ *cluster) { cfg.MaxRecipients, cfg.MaxCommands = 100, 101 })
	c := h.greeted(t)
	for range 50 {
		c.ask("NOOP", "250 ")
	}
	c.envelope()
	c.ask("DATA", "354 ")
	c.send("x\r\n.\r\n")
	c.want("250 ") // begins the count anew
	for range 100 {
		c.ask("NOOP", "250 ")
	}
	c.ask("NOOP", "250 ")
	c.want("421 4.7.0 ")
	c.wantClosed()
}

// How many chunks a message comes in is the client's affair, as long as they have content.
func TestChunksAreNoTalk(t *testing.T) {
	h := start(t, func(cfg *Config, _ *cluster) { cfg.MaxRecipients, cfg.MaxCommands = 100, 101 })
	c := h.greeted(t)
	c.envelope()
	chunk := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 16)
	for range 300 {
		c.send(fmt.Sprintf("BDAT %d\r\n%s", len(chunk), chunk))
		c.want("250 ")
	}
	c.ask("BDAT 0 LAST", "250 ")
	c.envelope()
	for range 98 {
		c.send("BDAT 1\r\nx")
		c.want("250 ")
	}
	c.send("BDAT 1\r\nx")
	c.want("250 ")
	c.want("421 4.7.0 ")
	c.wantClosed()
}

func TestLongLines(t *testing.T) {
	h := start(t, nil)
	c := h.greeted(t)
	c.ask("NOOP "+strings.Repeat("x", 2048-7), "250 ")
	c.ask("NOOP "+strings.Repeat("x", 2048-6), "500 5.5.2 ")
	c.ask(strings.Repeat("x", 100<<10), "500 5.5.2 ")
	// Just over the buffer, with the CR the last octet that it holds.
	c.ask(strings.Repeat("x", readBuffer-1), "500 5.5.2 ")
	c.ask("NOOP", "250 ")
	c.send(strings.Repeat("x", 100<<10) + "\nNOOP\r\n")
	c.want("500 5.5.2 ")
	c.wantClosed()

	endless := h.greeted(t)
	go func() { _, _ = io.Copy(endless.nc, io.LimitReader(zeros{}, 8<<20)) }()
	endless.want("500 5.5.2 ")
	endless.wantClosed()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestTimeouts: what comes after a time-out is never carried out.
func TestTimeouts(t *testing.T) {
	tests := map[string]struct {
		change func(*Config)
		play   func(*client)
	}{
		"command": {
			func(cfg *Config) { cfg.CommandTimeout = time.Second },
			func(c *client) { c.send("NOO") },
		},
		"session": {
			func(cfg *Config) { cfg.SessionTimeout = time.Second },
			func(*client) {},
		},
		"DATA stalls": {
			func(cfg *Config) { cfg.DataTimeout = 50 * time.Millisecond },
			func(c *client) { c.envelope(); c.ask("DATA", "354 "); c.send("x\r\n") },
		},
		"BDAT stalls": {
			func(cfg *Config) { cfg.DataTimeout = 50 * time.Millisecond },
			func(c *client) { c.envelope(); c.send("BDAT 10 LAST\r\nx\r\n") },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := start(t, func(cfg *Config, _ *cluster) { test.change(cfg) })
			c := h.greeted(t)
			test.play(c)
			c.want("421 4.4.2 ")
			c.send("\r\n.\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nevil\r\n.\r\n")
			c.wantClosed()
			if len(h.accepted()) != 0 {
				t.Error("a message was accepted after a time-out")
			}
		})
	}
}

// TestTrickle: a client that keeps the connection busy with a few octets now
// and then doesn't keep it for ever, and one that makes progress isn't cut off
// though the transfer as a whole outlasts DataTimeout.
func TestTrickle(t *testing.T) {
	h := start(t, func(cfg *Config, _ *cluster) {
		cfg.DataTimeout = time.Second
		cfg.MinDataRate = 1000
	})
	trickle := func(part string, last string) (*client, time.Duration) {
		c := h.greeted(t)
		c.envelope()
		c.ask("DATA", "354 ")
		begin := time.Now()
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for time.Since(begin) < 1500*time.Millisecond {
			<-ticker.C
			if _, err := io.WriteString(c.nc, part); err != nil {
				break
			}
		}
		// The server may have closed: then the reply says so.
		_, _ = io.WriteString(c.nc, last)
		return c, time.Since(begin)
	}
	c, _ := trickle("x", "\r\n.\r\n")
	lines, _ := c.reply()
	if len(lines) > 0 && !strings.HasPrefix(lines[0], "421 4.4.2 ") {
		t.Errorf("slow client got %q", lines)
	}
	if len(h.accepted()) != 0 {
		t.Error("slow message accepted")
	}
	c, took := trickle(strings.Repeat("x", 998)+"\r\n", ".\r\n")
	c.want("250 ")
	if took < time.Second {
		t.Error("the transfer was too short to show anything")
	}
}

// TestRepliesLeaveTogether counts the writes that a pipelined transaction costs.
func TestRepliesLeaveTogether(t *testing.T) {
	h := &harness{cluster: newCluster(), registry: prometheus.NewRegistry(), done: make(chan error, 1)}
	plain := start(t, nil) // for its client methods only
	cfg := plain.server.cfg
	cfg.Registerer, cfg.Proposer, cfg.Directory, cfg.Gate = h.registry, h.cluster, h.cluster, h.cluster
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counting := &countingListener{Listener: listener}
	ctx, stop := context.WithCancel(t.Context())
	go func() { h.done <- server.Serve(ctx, counting) }()
	defer func() {
		stop()
		if err := <-h.done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	h.address = listener.Addr().String()

	c := h.greeted(t)
	before := counting.writes.Load()
	c.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n")
	for _, want := range []string{"250 ", "250 ", "250 ", "354 "} {
		c.want(want)
	}
	if n := counting.writes.Load() - before; n != 1 {
		t.Errorf("%d writes for four replies", n)
	}
	c.send("x\r\n.\r\n")
	c.want("250 ")
}

type countingListener struct {
	net.Listener
	writes atomic.Int32
}

func (l *countingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return &countingConn{nc, &l.writes}, err
}

type countingConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func TestShutdown(t *testing.T) {
	proposed, release := make(chan struct{}), make(chan struct{})
	h := start(t, func(_ *Config, c *cluster) {
		c.before = func(_ context.Context, event *pb.Event, _ []byte) (*pb.EventResult, error) {
			if event.GetMessageAccepted() != nil {
				close(proposed)
				<-release
			}
			return nil, nil
		}
	})
	idle, inMail, inData, atDot := h.greeted(t), h.greeted(t), h.greeted(t), h.greeted(t)
	inMail.ask("MAIL FROM:<a@example.com>", "250 ")
	for _, c := range []*client{inData, atDot} {
		c.envelope()
		c.ask("DATA", "354 ")
	}
	inData.send("x\r\n")
	atDot.send("y\r\n.\r\nNOOP\r\n")
	<-proposed
	h.stop()
	idle.want("421 4.3.2 ")
	idle.wantClosed()
	inMail.want("421 4.3.2 ")
	inMail.wantClosed()
	if _, err := net.Dial("tcp", h.address); err == nil {
		t.Error("still listening")
	}
	lookUntil(t, "the others are told to stop", h.allStopping) // one after the other
	close(release)
	atDot.want("250 ")
	atDot.want("421 4.3.2 ")
	atDot.wantClosed()
	inData.nc.Close()
	err := <-h.done
	h.done <- nil
	if err != nil {
		t.Error(err)
	}
	if n := len(h.accepted()); n != 1 {
		t.Errorf("%d messages accepted, want 1", n)
	}
}

// TestShutdownGraceOver: whoever isn't done by then is cut off; an acceptance
// in doubt is taken back before Serve returns.
func TestShutdownGraceOver(t *testing.T) {
	proposed := make(chan struct{})
	h := start(t, func(cfg *Config, c *cluster) {
		cfg.ShutdownGrace = 50 * time.Millisecond
		c.before = func(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, error) {
			if event.GetMessageAccepted() != nil {
				close(proposed)
				<-ctx.Done()
				c.apply(event, payload)
				return nil, ctx.Err()
			}
			return nil, nil
		}
	})
	inData, atDot := h.greeted(t), h.greeted(t)
	for _, c := range []*client{inData, atDot} {
		c.envelope()
		c.ask("DATA", "354 ")
	}
	inData.send(text(300 << 10))
	atDot.send("y\r\n.\r\n")
	<-proposed
	h.waitFor(t, "a piece is stored", func() bool { return len(h.pieces) == 1 })
	h.stop()
	err := <-h.done
	h.done <- nil
	if err != nil {
		t.Error(err)
	}
	if len(h.accepted()) != 0 || len(h.aborted) != 1 || len(h.pieces) != 0 {
		t.Errorf("%d messages, %d aborted, %d uploads left", len(h.accepted()), len(h.aborted), len(h.pieces))
	}
}

func TestListenerFails(t *testing.T) {
	h := start(t, nil)
	cfg := h.server.cfg
	cfg.Registerer = prometheus.NewRegistry()
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := server.Serve(t.Context(), listener); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener: %v", err)
	}
	if err := server.Serve(t.Context()); err == nil {
		t.Error("Serve can be called twice")
	}
}

// TestOverloaded: no message is begun while too many are being taken back.
func TestOverloaded(t *testing.T) {
	release := make(chan struct{})
	h := start(t, func(cfg *Config, c *cluster) {
		cfg.AcceptTimeout = 20 * time.Millisecond
		cfg.MaxConnections = 2
		c.before = func(ctx context.Context, event *pb.Event, _ []byte) (*pb.EventResult, error) {
			if event.GetMessageAccepted() != nil {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			<-release
			return nil, nil
		}
	})
	c := h.greeted(t)
	for range 2 {
		c.envelope()
		c.ask("DATA", "354 ")
		c.send("x\r\n.\r\n")
		c.want("451 4.3.2 ")
	}
	c.ask("MAIL FROM:<a@example.com>", "451 4.3.2 ")
	close(release)
	h.waitFor(t, "both are taken back", func() bool { return len(h.aborted) == 2 })
}

func TestPanicStaysInSession(t *testing.T) {
	h := start(t, nil)
	cfg := h.server.cfg
	registry := prometheus.NewRegistry()
	cfg.Registerer, cfg.Gate = registry, panicking{}
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	h.address = listener.Addr().String()
	bystander, c := h.greeted(t), h.greeted(t)
	c.send("MAIL FROM:<a@example.com>\r\n")
	c.wantClosed()
	bystander.ask("NOOP", "250 ")
	if logs := h.logs.String(); !strings.Contains(logs, "session panicked") {
		t.Errorf("log: %s", logs)
	}
}

type panicking struct{}

func (panicking) Check() *relay.Reply { panic("bug") }

func TestConfigErrors(t *testing.T) {
	h := start(t, nil)
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"hostname":   {func(c *Config) { c.Hostname = "a b" }, `hostname "a b"`},
		"proposer":   {func(c *Config) { c.Proposer = nil }, "proposer"},
		"size":       {func(c *Config) { c.MaxMessageSize = 1000 }, "largest message 1000"},
		"recipients": {func(c *Config) { c.MaxRecipients = 10 }, "recipients per message 10"},
		"commands":   {func(c *Config) { c.MaxCommands = c.MaxRecipients }, "commands per session"},
		"memory":     {func(c *Config) { c.BodyMemory = 1 }, "memory for bodies 1"},
		"time-outs":  {func(c *Config) { c.AcceptTimeout = 0 }, "time-outs"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := h.server.cfg
			cfg.Registerer = prometheus.NewRegistry()
			test.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to name %q", err, test.want)
			}
		})
	}
}
