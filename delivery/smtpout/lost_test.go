package smtpout_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
	"holdfast/test/sink"
)

// stepwise are the offers under which the content leaves after the envelope
// was answered.
func stepwise(offer []string) bool {
	return !chunking(offer) || !strings.Contains(strings.Join(offer, " "), "PIPELINING")
}

func TestPeerHangsUp(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		phases := map[string]relay.Phase{
			"MAIL": relay.PhaseMail, "RCPT": relay.PhaseRcpt, "DATA": relay.PhaseData, sink.Dot: relay.PhaseDot,
		}
		for verb, phase := range phases {
			if verb == "DATA" && chunking(offer) {
				continue
			}
			server := startSink(t, sink.Config{Offer: offer, Answer: sink.On(verb, sink.Reply{Hangup: true})})
			conn := connect(t, newDialer(), server.Addr())
			result := conn.Send(testContext(t), message("x\r\n", "a@x", "b@x"))
			// In one flight with its envelope the content is sent whatever the peer
			// has answered so far, so it is in doubt at every step.
			inDoubt := verb == sink.Dot || !stepwise(offer)
			for _, outcome := range result.Outcomes {
				wantFailure(t, outcome.Failure, want{relay.CauseClosed, phase, 0, inDoubt})
			}
			if conn.Reusable() || result.Stale {
				t.Errorf("%s: reusable %v, stale %v", verb, conn.Reusable(), result.Stale)
			}
		}
	})
}

func Test421EndsConnection(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		phases := map[string]relay.Phase{
			"MAIL": relay.PhaseMail, "RCPT": relay.PhaseRcpt, "DATA": relay.PhaseData, sink.Dot: relay.PhaseDot,
		}
		for verb, phase := range phases {
			if verb == "DATA" && chunking(offer) {
				continue
			}
			server := startSink(t, sink.Config{Offer: offer, Answer: sink.On(verb, sink.Reply{Code: 421, Text: "closing"})})
			conn := connect(t, newDialer(), server.Addr())
			result := conn.Send(testContext(t), message("x\r\n"))
			f := result.Outcomes[0].Failure
			wantFailure(t, f, want{relay.CauseDeferred, phase, 421, false})
			if f.Class() != relay.HostFailure || conn.Reusable() || conn.Alive() {
				t.Errorf("%s: class %v, reusable %v", verb, f.Class(), conn.Reusable())
			}
			again := conn.Send(testContext(t), message("y\r\n"))
			if again.Accepted() != 0 {
				t.Errorf("%s: message sent over a connection that is closing", verb)
			}
		}
	})
}

func TestTimeouts(t *testing.T) {
	never := make(chan struct{})
	const short = 30 * time.Millisecond
	eachOffer(t, func(t *testing.T, offer []string) {
		tests := map[string]struct {
			phase relay.Phase
			set   func(*smtpout.Timeouts)
		}{
			"MAIL":   {relay.PhaseMail, func(l *smtpout.Timeouts) { l.Mail = short }},
			"RCPT":   {relay.PhaseRcpt, func(l *smtpout.Timeouts) { l.Rcpt = short }},
			"DATA":   {relay.PhaseData, func(l *smtpout.Timeouts) { l.DataInit = short }},
			sink.Dot: {relay.PhaseDot, func(l *smtpout.Timeouts) { l.Dot = short }},
		}
		for verb, test := range tests {
			if verb == "DATA" && chunking(offer) {
				continue
			}
			server := startSink(t, sink.Config{Offer: offer, Answer: sink.On(verb, sink.Reply{Hold: never})})
			d := newDialer()
			test.set(&d.Timeouts)
			conn := connect(t, d, server.Addr())
			f := conn.Send(testContext(t), message("x\r\n")).Outcomes[0].Failure
			wantFailure(t, f, want{relay.CauseTimeout, test.phase, 0, verb == sink.Dot || !stepwise(offer)})
		}
	})
}

func TestLostReplyIsInDoubt(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		server := startSink(t, sink.Config{Offer: offer, Answer: sink.On(sink.Dot, sink.Reply{Code: 250, Silent: true, Hangup: true})})
		conn := connect(t, newDialer(), server.Addr())
		f := conn.Send(testContext(t), message("x\r\n")).Outcomes[0].Failure
		wantFailure(t, f, want{relay.CauseClosed, relay.PhaseDot, 0, true})
		if got := lastMessage(t, server, 1); !got.Committed {
			t.Error("the peer has not taken it: the test proves nothing")
		}
	})
}

func TestNonsenseAfterContentIsInDoubt(t *testing.T) {
	for _, raw := range []string{"what?\r\n", "354 more\r\n", "99 x\r\n"} {
		server := startSink(t, sink.Config{Answer: sink.On(sink.Dot, sink.Reply{Code: 250, Raw: raw})})
		conn := connect(t, newDialer(), server.Addr())
		f := conn.Send(testContext(t), message("x\r\n")).Outcomes[0].Failure
		wantFailure(t, f, want{relay.CauseClosed, relay.PhaseDot, 0, true})
	}
}

// holdAt makes a server that reports a step and then keeps its reply back
// until release is closed.
func holdAt(t *testing.T, verb string, offer []string) (server *sink.Server, reached <-chan struct{}, release chan struct{}) {
	at := make(chan struct{}, 1)
	release = make(chan struct{})
	server = startSink(t, sink.Config{Offer: offer, Answer: func(s sink.Step) sink.Reply {
		if s.Verb != verb {
			return sink.Reply{}
		}
		select {
		case at <- struct{}{}:
		default:
		}
		return sink.Reply{Hold: release}
	}})
	return server, at, release
}

func TestCancelInterruptsAtOnce(t *testing.T) {
	for _, verb := range []string{"MAIL", "RCPT", sink.Dot} {
		eachOffer(t, func(t *testing.T, offer []string) {
			server, reached, _ := holdAt(t, verb, offer)
			conn := connect(t, newDialer(), server.Addr())
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-reached
				cancel()
			}()
			f := conn.Send(ctx, message("x\r\n")).Outcomes[0].Failure
			if f == nil || !errors.Is(f, context.Canceled) {
				t.Fatalf("%s: failure %v, want cancellation", verb, f)
			}
			if inDoubt := verb == sink.Dot || !stepwise(offer); f.InDoubt != inDoubt {
				t.Errorf("%s: in doubt %v, want %v", verb, f.InDoubt, inDoubt)
			}
			if conn.Reusable() {
				t.Errorf("%s: reusable after cancellation", verb)
			}
		})
	}
}

func TestAbortBeforeCommit(t *testing.T) {
	for _, verb := range []string{"MAIL", "RCPT", "DATA"} {
		server, reached, _ := holdAt(t, verb, []string{"PIPELINING"})
		conn := connect(t, newDialer(), server.Addr())
		aborted := make(chan bool, 1)
		go func() {
			<-reached
			aborted <- conn.AbortUnlessCommitted()
		}()
		f := conn.Send(testContext(t), message("x\r\n")).Outcomes[0].Failure
		if !<-aborted {
			t.Errorf("%s: not aborted, though nothing was committed", verb)
		}
		if f == nil || !errors.Is(f, smtpout.ErrAborted) || f.InDoubt {
			t.Errorf("%s: failure %v, want ErrAborted without doubt", verb, f)
		}
	}
}

func TestCommittedIsLeftToItsReply(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		server, reached, release := holdAt(t, sink.Dot, offer)
		conn := connect(t, newDialer(), server.Addr())
		left := make(chan bool, 1)
		go func() {
			// The peer has read the end; its kernel may take 40 ms more to
			// acknowledge it (RFC 1122 section 4.2.3.2).
			<-reached
			for ctx := testContext(t); !conn.Committed() && ctx.Err() == nil; {
				runtime.Gosched()
			}
			left <- !conn.AbortUnlessCommitted()
			close(release)
		}()
		result := conn.Send(testContext(t), message("x\r\n"))
		if !<-left {
			t.Fatal("aborted, though the content had arrived")
		}
		wantAccepted(t, result)
		if !conn.AbortUnlessCommitted() {
			t.Error("an idle connection is left open")
		}
	})
}

func TestAbortAfterCommitIsInDoubt(t *testing.T) {
	server, reached, _ := holdAt(t, sink.Dot, nil)
	conn := connect(t, newDialer(), server.Addr())
	go func() {
		<-reached
		conn.Abort()
	}()
	f := conn.Send(testContext(t), message("x\r\n")).Outcomes[0].Failure
	if f == nil || !errors.Is(f, smtpout.ErrAborted) || !f.InDoubt {
		t.Errorf("failure %v, want ErrAborted in doubt", f)
	}
}

// deaf is a peer that answers up to DATA and then reads no more.
func deaf(t *testing.T, ehlo string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveDeaf(t, listener, ehlo)
}

func serveDeaf(t *testing.T, listener net.Listener, ehlo string) string {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		play(conn, "220 deaf\r\n", []string{ehlo, "250 ok\r\n", "250 ok\r\n", "354 go\r\n"})
		<-stop
	}()
	t.Cleanup(func() {
		close(stop)
		listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func TestAbortWhileContentIsStuck(t *testing.T) {
	// Far more than the socket buffers of both sides: the write blocks.
	content := strings.Repeat("x", 64<<20)
	conn := connect(t, newDialer(), deaf(t, "250-x\r\n250 PIPELINING\r\n"))
	half := make(chan struct{})
	tx := message(content)
	tx.Body = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(content[:1<<20]), &signal{reached: half}, strings.NewReader(content[1<<20:]))), nil
	}
	aborted := make(chan bool, 1)
	go func() {
		<-half
		aborted <- conn.AbortUnlessCommitted()
	}()
	f := conn.Send(testContext(t), tx).Outcomes[0].Failure
	if !<-aborted || f == nil || f.InDoubt || !errors.Is(f, smtpout.ErrAborted) {
		t.Errorf("failure %v, want ErrAborted without doubt", f)
	}
}

// signal is an empty reader that tells when it is reached.
type signal struct{ reached chan struct{} }

func (s *signal) Read([]byte) (int, error) {
	close(s.reached)
	return 0, io.EOF
}

func TestUnacknowledgedIsNotCommitted(t *testing.T) {
	// The peer's kernel takes some KiB, our own queue the rest: the end is
	// written, and never acknowledged.
	tiny := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		})
		return errors.Join(controlErr, err)
	}}
	listener, err := tiny.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := serveDeaf(t, listener, "250-x\r\n250 PIPELINING\r\n")
	conn := connect(t, newDialer(), address)
	aborted := make(chan bool, 1)
	go func() {
		for ctx := testContext(t); !conn.Complete() && ctx.Err() == nil; {
			runtime.Gosched()
		}
		aborted <- conn.Complete() && conn.AbortUnlessCommitted()
	}()
	f := conn.Send(testContext(t), message(strings.Repeat("x", 160<<10))).Outcomes[0].Failure
	if !<-aborted {
		t.Error("octets that the peer never acknowledged count as committed, or never left")
	}
	if f == nil || !errors.Is(f, smtpout.ErrAborted) || f.Phase != relay.PhaseDot || !f.InDoubt {
		t.Errorf("failure %v, want ErrAborted at the dot, in doubt", f)
	}
}

func TestEarlyRefusalOfContent(t *testing.T) {
	address := scripted(t, "220 x\r\n", "250-x\r\n250 PIPELINING\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n552 5.3.4 enough\r\n")
	conn := connect(t, newDialer(), address)
	f := conn.Send(testContext(t), message(strings.Repeat("line\r\n", 2_000_000))).Outcomes[0].Failure
	wantFailure(t, f, want{relay.CauseRejected, relay.PhaseData, 552, false})
	if f.Enhanced != "5.3.4" || conn.Reusable() {
		t.Errorf("failure %v, reusable %v", f, conn.Reusable())
	}
}

func TestTruncatedMessageTakenIsNoDelivery(t *testing.T) {
	// A peer that takes what it has got so far for the message.
	address := scripted(t, "220 x\r\n", "250-x\r\n250 PIPELINING\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n250 taken\r\n")
	conn := connect(t, newDialer(), address)
	f := conn.Send(testContext(t), message(strings.Repeat("line\r\n", 2_000_000))).Outcomes[0].Failure
	wantFailure(t, f, want{relay.CauseClosed, relay.PhaseData, 0, false})
}

func TestIdleConnectionClosedByPeer(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		server := startSink(t, sink.Config{Offer: offer})
		conn := connect(t, newDialer(), server.Addr())
		wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
		if !conn.Alive() {
			t.Fatal("idle connection not alive")
		}
		server.Disconnect()
		if err := server.WaitStats(testContext(t), func(s sink.Stats) bool { return s.Open == 0 }); err != nil {
			t.Fatal(err)
		}
		if conn.Alive() {
			t.Error("closed connection alive")
		}
		// As if it had been closed a moment after the question.
		result := conn.Send(testContext(t), message("y\r\n"))
		if f := result.Outcomes[0].Failure; !result.Stale || f == nil || f.Cause != relay.CauseClosed || f.Phase != relay.PhaseMail {
			t.Errorf("result %+v (%v), want stale", result, result.Outcomes[0].Failure)
		}
		if f := result.Outcomes[0].Failure; f.InDoubt && stepwise(offer) {
			t.Errorf("%v: in doubt, though the content never left", f)
		}
	})
}

func TestIdleGoodbyeIsStale(t *testing.T) {
	server := startSink(t, sink.Config{})
	conn := connect(t, newDialer(), server.Addr())
	wantAccepted(t, conn.Send(testContext(t), message("x\r\n")))
	server.SetAnswer(sink.On("MAIL", sink.Reply{Code: 421, Text: "idle too long"}))
	result := conn.Send(testContext(t), message("y\r\n"))
	wantFailure(t, result.Outcomes[0].Failure, want{relay.CauseDeferred, relay.PhaseMail, 421, false})
	if !result.Stale {
		t.Error("421 to the first command of a kept connection is not marked stale")
	}
}

func TestFreshConnectionIsNeverStale(t *testing.T) {
	server := startSink(t, sink.Config{Answer: sink.On("MAIL", sink.Reply{Hangup: true})})
	conn := connect(t, newDialer(), server.Addr())
	if result := conn.Send(testContext(t), message("x\r\n")); result.Stale || result.Accepted() != 0 {
		t.Errorf("result %+v, want a failure of the host", result)
	}
}

func TestRefusedResetIsNoVerdictOnTheMessage(t *testing.T) {
	server := startSink(t, sink.Config{Answer: sink.On("RCPT", sink.Reply{Code: 550, Text: "no"})})
	conn := connect(t, newDialer(), server.Addr())
	conn.Send(testContext(t), message("x\r\n"))
	server.SetAnswer(sink.On("RSET", sink.Reply{Code: 500, Text: "what?"}))
	f := conn.Send(testContext(t), message("y\r\n")).Outcomes[0].Failure
	if f == nil || f.Class() != relay.HostFailure || conn.Reusable() {
		t.Errorf("failure %v, reusable %v: want a failure of the host", f, conn.Reusable())
	}
}

func TestCloseIsBounded(t *testing.T) {
	never := make(chan struct{})
	server := startSink(t, sink.Config{Answer: sink.On("QUIT", sink.Reply{Hold: never})})
	d := newDialer()
	d.Timeouts.Quit = 10 * time.Millisecond
	conn := connect(t, d, server.Addr())
	begin := time.Now()
	conn.Close()
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("Close took %v", took)
	}
}

// deadlines notes when a connection's I/O is to end.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetDeadline(end time.Time) error {
	d.set = append(d.set, end)
	return d.Conn.SetDeadline(end)
}

// The limit of Close is one for QUIT and its reply.
func TestCloseHasOneLimit(t *testing.T) {
	server := startSink(t, sink.Config{})
	d, seen := newDialer(), &deadlines{}
	d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		var err error
		seen.Conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return seen, err
	}
	conn := connect(t, d, server.Addr())
	seen.set = nil
	conn.Close()
	if n := len(seen.set); n < 2 || !seen.set[n-1].Equal(seen.set[0]) {
		t.Errorf("the ends are %v, want the same for QUIT and its reply", seen.set)
	}
}
