package smtpout_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
	"holdfast/test/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what should happen at once.
const patience = 20 * time.Second

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newDialer() *smtpout.Dialer {
	return &smtpout.Dialer{LocalName: "relay.test", Now: func() time.Time { return testNow }}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func startSink(t testing.TB, config sink.Config) *sink.Server {
	t.Helper()
	server, err := sink.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func connect(t testing.TB, d *smtpout.Dialer, address string) *smtpout.Conn {
	t.Helper()
	conn, err := d.Connect(testContext(t), address, relay.TLSNone, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// message is a transaction with the given content.
func message(content string, recipients ...string) smtpout.Transaction {
	tx := smtpout.Transaction{
		From: "sender@example.net",
		Size: int64(len(content)),
		Body: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
	if len(recipients) == 0 {
		recipients = []string{"rcpt@example.org"}
	}
	for _, address := range recipients {
		tx.Recipients = append(tx.Recipients, smtpout.Recipient{Address: address})
	}
	return tx
}

// badBody gives its content and then an error in place of its end.
func badBody(content string, err error) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(content), failing{err})), nil
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func wantAccepted(t *testing.T, result smtpout.Result) {
	t.Helper()
	for i, outcome := range result.Outcomes {
		if outcome.Failure != nil {
			t.Fatalf("recipient %d: %v", i, outcome.Failure)
		}
	}
}

type want struct {
	cause   relay.Cause
	phase   relay.Phase
	code    int
	inDoubt bool
}

func wantFailure(t *testing.T, f *relay.Failure, w want) {
	t.Helper()
	if f == nil {
		t.Fatalf("accepted, want %+v", w)
	}
	if got := (want{f.Cause, f.Phase, f.Code, f.InDoubt}); got != w {
		t.Errorf("failure %+v (%v), want %+v", got, f, w)
	}
	if !f.At.Equal(testNow) {
		t.Errorf("failure at %v, want the injected clock's %v", f.At, testNow)
	}
	if f.Host == "" || f.Text == "" && f.Code == 0 {
		t.Errorf("failure %#v lacks host or text", f)
	}
}

// lastMessage waits for n ended transactions and returns the last one.
func lastMessage(t *testing.T, server *sink.Server, n int) sink.Message {
	t.Helper()
	if err := server.Wait(testContext(t), func(m []sink.Message) bool { return len(m) >= n }); err != nil {
		t.Fatalf("waiting for %d transactions, %d are there: %v", n, len(server.Messages()), err)
	}
	return server.Messages()[n-1]
}

type fakeResolver struct {
	addresses []netip.Addr
	mx        []*net.MX
	err       error
	wait      bool // until ctx ends
}

func (r fakeResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	if r.wait {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return r.addresses, r.err
}

func (r fakeResolver) LookupMX(ctx context.Context, _ string) ([]*net.MX, error) {
	if r.wait {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return r.mx, r.err
}

// scripted is a server that gives fixed answers to whatever it reads, one for
// each line. It is for what no SMTP server should do.
func scripted(t *testing.T, greeting string, answers ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		play(conn, greeting, answers)
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func play(conn net.Conn, greeting string, answers []string) {
	if _, err := io.WriteString(conn, greeting); err != nil {
		return
	}
	var seen []byte
	buffer := make([]byte, 4096)
	for len(answers) > 0 {
		for bytes.IndexByte(seen, '\n') < 0 {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			seen = append(seen, buffer[:n]...)
		}
		seen = seen[bytes.IndexByte(seen, '\n')+1:]
		if _, err := io.WriteString(conn, answers[0]); err != nil {
			return
		}
		answers = answers[1:]
	}
}

var errChecksum = errors.New("checksum differs")
