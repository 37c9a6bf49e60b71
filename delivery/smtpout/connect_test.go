package smtpout_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
	"holdfast/test/sink"
)

func TestConnectFailures(t *testing.T) {
	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	dialing := func(err error) func(*smtpout.Dialer) {
		return func(d *smtpout.Dialer) {
			d.Resolver = fakeResolver{addresses: loopback}
			d.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
			}
		}
	}
	resolving := func(r fakeResolver) func(*smtpout.Dialer) {
		return func(d *smtpout.Dialer) { d.Resolver = r }
	}
	tests := []struct {
		name   string
		change func(*smtpout.Dialer)
		cause  relay.Cause
		phase  relay.Phase
	}{
		{"no such host", resolving(fakeResolver{err: &net.DNSError{Err: "no such host", IsNotFound: true}}), relay.CauseDNS, relay.PhaseDNS},
		{"no addresses", resolving(fakeResolver{}), relay.CauseDNS, relay.PhaseDNS},
		{"resolver fails", resolving(fakeResolver{err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}}), relay.CauseDNS, relay.PhaseDNS},
		{"resolver hangs", func(d *smtpout.Dialer) {
			d.Resolver = fakeResolver{wait: true}
			d.Timeouts.Lookup = time.Millisecond
		}, relay.CauseDNS, relay.PhaseDNS},
		{"refused", dialing(syscall.ECONNREFUSED), relay.CauseRefused, relay.PhaseConnect},
		{"no route to host", dialing(syscall.EHOSTUNREACH), relay.CauseUnreachable, relay.PhaseConnect},
		{"no route to network", dialing(syscall.ENETUNREACH), relay.CauseUnreachable, relay.PhaseConnect},
		{"kernel gave up", dialing(syscall.ETIMEDOUT), relay.CauseTimeout, relay.PhaseConnect},
		{"reset", dialing(syscall.ECONNRESET), relay.CauseClosed, relay.PhaseConnect},
		{"hangs", func(d *smtpout.Dialer) {
			d.Resolver = fakeResolver{addresses: loopback}
			d.Timeouts.Connect = time.Millisecond
			d.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}, relay.CauseTimeout, relay.PhaseConnect},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newDialer()
			test.change(d)
			wantFailure(t, connectFailure(t, d, "mx.example.org:25", relay.TLSNone), want{test.cause, test.phase, 0, false})
		})
	}
}

func connectFailure(t *testing.T, d *smtpout.Dialer, host string, level relay.TLS) *relay.Failure {
	t.Helper()
	conn, err := d.Connect(testContext(t), host, level, nil)
	if err == nil {
		conn.Close()
		t.Fatal("connected")
	}
	var f *relay.Failure
	if !errors.As(err, &f) {
		t.Fatalf("error %T, want *relay.Failure", err)
	}
	if f.Class() != relay.HostFailure {
		t.Errorf("%v: class %v, want HostFailure", f, f.Class())
	}
	return f
}

func TestRealRefusedPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	wantFailure(t, connectFailure(t, newDialer(), address, relay.TLSNone), want{relay.CauseRefused, relay.PhaseConnect, 0, false})
	wantFailure(t, connectFailure(t, newDialer(), "no-port", relay.TLSNone), want{relay.CauseDNS, relay.PhaseDNS, 0, false})
}

func TestEveryAddressIsTried(t *testing.T) {
	server := startSink(t, sink.Config{})
	_, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	d := newDialer()
	d.Resolver = fakeResolver{addresses: []netip.Addr{
		netip.MustParseAddr("127.0.0.2"), // the sink listens on 127.0.0.1 only
		netip.MustParseAddr("127.0.0.3"),
		netip.MustParseAddr("::ffff:127.0.0.1"),
	}}
	conn := connect(t, d, "mx.example.org:"+port)
	if conn.Host() != "mx.example.org:"+port {
		t.Errorf("host %q", conn.Host())
	}
	wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
}

func TestGreetingAndHelloFailures(t *testing.T) {
	tests := []struct {
		name   string
		answer func(sink.Step) sink.Reply
		want   want
	}{
		{"greeting 554", sink.On(sink.Connect, sink.Reply{Code: 554, Text: "no mail here"}), want{relay.CauseRejected, relay.PhaseGreeting, 554, false}},
		{"greeting 421", sink.On(sink.Connect, sink.Reply{Code: 421, Text: "busy"}), want{relay.CauseDeferred, relay.PhaseGreeting, 421, false}},
		{"closed before greeting", sink.On(sink.Connect, sink.Reply{Hangup: true}), want{relay.CauseClosed, relay.PhaseGreeting, 0, false}},
		{"greeting malformed", sink.On(sink.Connect, sink.Reply{Raw: "HTTP/1.1 400 Bad Request\r\n", Code: 220}), want{relay.CauseClosed, relay.PhaseGreeting, 0, false}},
		{"greeting endless", sink.On(sink.Connect, sink.Reply{Raw: strings.Repeat("x", 10_000), Code: 220}), want{relay.CauseClosed, relay.PhaseGreeting, 0, false}},
		{"greeting 354", sink.On(sink.Connect, sink.Reply{Code: 354}), want{relay.CauseClosed, relay.PhaseGreeting, 0, false}},
		{"EHLO 550", sink.On("EHLO", sink.Reply{Code: 550, Text: "who?"}), want{relay.CauseRejected, relay.PhaseEHLO, 550, false}},
		{"EHLO 451", sink.On("EHLO", sink.Reply{Code: 451, Text: "later"}), want{relay.CauseDeferred, relay.PhaseEHLO, 451, false}},
		{"closed at EHLO", sink.On("EHLO", sink.Reply{Hangup: true}), want{relay.CauseClosed, relay.PhaseEHLO, 0, false}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := startSink(t, sink.Config{Answer: test.answer})
			wantFailure(t, connectFailure(t, newDialer(), server.Addr(), relay.TLSOpportunistic), test.want)
		})
	}
}

func TestTimeoutBeforeMail(t *testing.T) {
	never := make(chan struct{})
	for verb, phase := range map[string]relay.Phase{sink.Connect: relay.PhaseGreeting, "EHLO": relay.PhaseEHLO} {
		server := startSink(t, sink.Config{Answer: sink.On(verb, sink.Reply{Hold: never})})
		d := newDialer()
		d.Timeouts.Greeting, d.Timeouts.Hello = 20*time.Millisecond, 20*time.Millisecond
		if verb == "EHLO" {
			d.Timeouts.Greeting = patience
		}
		wantFailure(t, connectFailure(t, d, server.Addr(), relay.TLSNone), want{relay.CauseTimeout, phase, 0, false})
	}
}

func TestHeloFallback(t *testing.T) {
	server := startSink(t, sink.Config{Answer: sink.On("EHLO", sink.Reply{Code: 502, Text: "what?"})})
	conn := connect(t, newDialer(), server.Addr())
	wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
	if got := lastMessage(t, server, 1); got.Params != "" || got.Chunks != 0 {
		t.Errorf("extensions used after HELO: %+v", got)
	}
	wantFailure(t, connectFailure(t, newDialer(), server.Addr(), relay.TLSRequire), want{relay.CauseTLS, relay.PhaseTLS, 0, false})
}

func TestTLS(t *testing.T) {
	server := startSink(t, sink.Config{STARTTLS: true, Hostname: "mx.example.org"})
	trusting := newDialer()
	trusting.TLSConfig = &tls.Config{RootCAs: server.Roots()}
	for _, level := range []relay.TLS{relay.TLSNone, relay.TLSOpportunistic, relay.TLSRequire, relay.TLSVerify} {
		d := newDialer()
		if level == relay.TLSVerify {
			d = trusting
		}
		conn, err := d.Connect(testContext(t), server.Addr(), level, nil)
		if err != nil {
			t.Fatalf("%s: %v", level, err)
		}
		for range 2 {
			result := conn.Send(testContext(t), message(strings.Repeat("long line\r\n", 60_000)))
			wantAccepted(t, result)
			if encrypted := result.TLS == "TLS 1.3"; encrypted != (level != relay.TLSNone) {
				t.Errorf("%s: TLS %q", level, result.TLS)
			}
			if !conn.Alive() {
				t.Errorf("%s: idle connection not alive", level)
			}
		}
		conn.Close()
	}
	for i, m := range server.Messages() {
		if m.TLS != (i >= 2) || !m.Committed {
			t.Errorf("message %d: %v over TLS, committed %v", i, m.TLS, m.Committed)
		}
	}
	wantFailure(t, connectFailure(t, newDialer(), server.Addr(), relay.TLSVerify), want{relay.CauseTLS, relay.PhaseTLS, 0, false})
	trusting.Resolver = fakeResolver{addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	_, port, _ := net.SplitHostPort(server.Addr())
	wantFailure(t, connectFailure(t, trusting, "other.example.org:"+port, relay.TLSVerify), want{relay.CauseTLS, relay.PhaseTLS, 0, false})
}

func TestTLSNotToBeHad(t *testing.T) {
	plain := startSink(t, sink.Config{})
	refusing := startSink(t, sink.Config{STARTTLS: true, Answer: sink.On("STARTTLS", sink.Reply{Code: 454, Text: "no entropy"})})
	for server, code := range map[*sink.Server]int{plain: 0, refusing: 454} {
		conn, err := newDialer().Connect(testContext(t), server.Addr(), relay.TLSOpportunistic, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
		conn.Close()
		for _, level := range []relay.TLS{relay.TLSRequire, relay.TLSVerify} {
			wantFailure(t, connectFailure(t, newDialer(), server.Addr(), level), want{relay.CauseTLS, relay.PhaseTLS, code, false})
		}
	}
}

func TestBrokenHandshakeAllowsPlainRetry(t *testing.T) {
	address := scripted(t, "220 x\r\n", "250-x\r\n250 STARTTLS\r\n", "220 go\r\nthis is no TLS record\r\n")
	wantFailure(t, connectFailure(t, newDialer(), address, relay.TLSOpportunistic), want{relay.CauseTLS, relay.PhaseTLS, 0, false})

	server := startSink(t, sink.Config{STARTTLS: true, Answer: sink.On("STARTTLS", sink.Reply{Code: 220, Text: "go", Hangup: true})})
	wantFailure(t, connectFailure(t, newDialer(), server.Addr(), relay.TLSOpportunistic), want{relay.CauseTLS, relay.PhaseTLS, 0, false})
	conn := connect(t, newDialer(), server.Addr())
	wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
}

func TestPlaintextBehindStartTLSIsDropped(t *testing.T) {
	// In one packet with the 220: a faked EHLO reply. Were it taken after the
	// handshake, the peer would seem to offer nothing.
	server := startSink(t, sink.Config{STARTTLS: true, Answer: sink.On("STARTTLS", sink.Reply{
		Code: 220, Raw: "220 go\r\n250 injected\r\n",
	})})
	conn, err := newDialer().Connect(testContext(t), server.Addr(), relay.TLSRequire, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
	if got := lastMessage(t, server, 1); got.Params != "SIZE=3" || got.Chunks != 1 {
		t.Errorf("message %+v, want the extensions of the encrypted EHLO", got)
	}
}

func TestConnectIsCancelled(t *testing.T) {
	never := make(chan struct{})
	reached := make(chan struct{}, 1)
	server := startSink(t, sink.Config{Answer: func(s sink.Step) sink.Reply {
		reached <- struct{}{}
		return sink.Reply{Hold: never}
	}})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("shutting down")
	go func() {
		<-reached
		cancel(reason)
	}()
	_, err := newDialer().Connect(ctx, server.Addr(), relay.TLSNone, nil)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
		t.Errorf("error %v, want cancellation and its reason", err)
	}
}
