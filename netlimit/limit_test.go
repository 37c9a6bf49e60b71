package netlimit

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// door is a listener with a limit of 3 for an address and 5 for all; it keeps what
// it accepted, in order.
type door struct {
	t        *testing.T
	listener net.Listener
	log      bytes.Buffer
	ended    prometheus.Counter
	accepted []*Conn
}

func open(t *testing.T) *door {
	d := &door{t: t, ended: prometheus.NewCounter(prometheus.CounterOpts{Name: "ended"})}
	limit := New(Config{
		Name: "test", Total: 5, PerAddress: 3, Now: time.Now, Ended: d.ended, Logger: slog.New(slog.NewTextHandler(&d.log, nil)),
	})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.listener = limit.Listener(inner)
	t.Cleanup(func() {
		d.listener.Close()
		limit.Close()
	})
	return d
}

// enter connects from an address of loopback and gives the client's end.
func (d *door) enter(from string) net.Conn {
	d.t.Helper()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
	client, err := dialer.DialContext(d.t.Context(), "tcp", d.listener.Addr().String())
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { client.Close() })
	server, err := d.listener.Accept()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { server.Close() })
	d.accepted = append(d.accepted, server.(*Conn))
	return client
}

// wantEnded wants the server's end of a connection to be closed, or not.
func (d *door) wantEnded(client net.Conn, want bool) {
	d.t.Helper()
	patience := 10 * time.Second
	if !want {
		patience = 20 * time.Millisecond // nothing happens, so nothing can be waited for
	}
	if err := client.SetReadDeadline(time.Now().Add(patience)); err != nil {
		d.t.Fatal(err)
	}
	_, err := client.Read(make([]byte, 1))
	if ended := errors.Is(err, io.EOF); ended != want || err == nil || !want && !errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Errorf("reading says %v; ended must be %v", err, want)
	}
}

func TestOneMoreEndsTheOldest(t *testing.T) {
	d := open(t)
	a1, b1 := d.enter("127.0.0.2"), d.enter("127.0.0.3")
	a2, a3 := d.enter("127.0.0.2"), d.enter("127.0.0.2")
	d.wantEnded(a1, false)
	a4 := d.enter("127.0.0.2") // a fourth of its address
	d.wantEnded(a1, true)
	d.enter("127.0.0.4")
	d.wantEnded(b1, false)
	d.enter("127.0.0.5") // a sixth of all
	d.wantEnded(b1, true)
	for _, c := range []net.Conn{a2, a3, a4} {
		d.wantEnded(c, false)
	}
	var counted dto.Metric
	if err := d.ended.Write(&counted); err != nil || counted.Counter.GetValue() != 2 {
		t.Errorf("%v connections were ended (%v), want 2", counted.Counter.GetValue(), err)
	}
	if log := d.log.String(); strings.Count(log, "ended to make room") != 2 || !strings.Contains(log, "door=test") || !strings.Contains(log, "from=127.0.0.2:") {
		t.Errorf("the log says %q", log)
	}
}

// What was closed, or is known, makes room without anyone's harm.
func TestKnownAndClosedDoNotCount(t *testing.T) {
	d := open(t)
	known := d.enter("127.0.0.2")
	d.accepted[0].Known()
	closed := d.enter("127.0.0.2")
	if err := errors.Join(d.accepted[1].Close(), closed.Close()); err != nil {
		t.Fatal(err)
	}
	var others []net.Conn
	for range 3 {
		others = append(others, d.enter("127.0.0.2"))
	}
	for _, c := range append(others, known) {
		d.wantEnded(c, false)
	}
	d.enter("127.0.0.2")
	d.wantEnded(others[0], true)
	d.wantEnded(known, false)
}

// Who is no stranger any more and then one again counts once, as the latest; who has
// gone doesn't.
func TestUnknownCountsAgain(t *testing.T) {
	d := open(t)
	again, gone := d.enter("127.0.0.2"), d.enter("127.0.0.3")
	d.accepted[1].Known()
	if err := errors.Join(d.accepted[1].Close(), gone.Close()); err != nil {
		t.Fatal(err)
	}
	d.accepted[1].Unknown()
	d.accepted[0].Known()
	second, third := d.enter("127.0.0.2"), d.enter("127.0.0.2")
	for range 2 {
		d.accepted[0].Unknown()
	}
	fourth := d.enter("127.0.0.2")
	d.wantEnded(second, true)
	for _, c := range []net.Conn{again, third, fourth} {
		d.wantEnded(c, false)
	}
	d.enter("127.0.0.2")
	d.wantEnded(third, true)
	d.enter("127.0.0.2")
	d.wantEnded(again, true)
	if counted := len(d.accepted[0].limit.strangers); counted != 3 {
		t.Errorf("%d are counted, want 3", counted)
	}
}

// Connections that come and go at the same time leave nothing behind.
func TestManyAtOnce(t *testing.T) {
	d := open(t)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := d.listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = io.Copy(io.Discard, c) // until either end closes
				c.Close()
			})
		}
	})
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			c, err := net.Dial("tcp", d.listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = c.Write([]byte("x")) // it may have been ended already
			c.Close()
		})
	}
	clients.Wait()
	if err := d.listener.Close(); err != nil {
		t.Fatal(err)
	}
	serving.Wait()
	if left := d.listener.(*listener).limit.strangers; len(left) > 0 {
		t.Errorf("%d connections still count", len(left))
	}
}

func TestClient(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := Client(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", address, got, want)
		}
	}
}
