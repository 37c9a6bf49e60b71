package harness

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startEcho serves lines back until the test ends; heard gets each line that
// arrived.
func startEcho(t *testing.T) (address string, heard chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard = make(chan string, 100)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					heard <- lines.Text()
					if _, err := io.WriteString(conn, lines.Text()+"\n"); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	return listener.Addr().String(), heard
}

// startProxy stands in front of an echo server; clients say who they are by
// the name under which their port is entered.
func startProxy(t *testing.T) (p *Proxy, heard chan string) {
	t.Helper()
	target, heard := startEcho(t)
	p, err := NewProxy(t.Context(), "127.0.0.1:0", target, func(context.Context, int, int) string { return "a" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, heard
}

type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func connect(t *testing.T, p *Proxy) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, conn: conn, in: bufio.NewReader(conn)}
}

func (c *peer) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *peer) hear(want string) {
	c.t.Helper()
	if line, err := c.in.ReadString('\n'); err != nil || line != want+"\n" {
		c.t.Fatalf("heard %q, %v, want %q", line, err, want)
	}
}

// silent checks that nothing comes for a moment: there is no event to wait for
// where nothing must happen.
func (c *peer) silent() {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		c.t.Fatal(err)
	}
	if line, err := c.in.ReadString('\n'); err == nil {
		c.t.Fatalf("heard %q through a stalled proxy", line)
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
}

func TestProxyPassesBothWaysAndEndOfFile(t *testing.T) {
	p, _ := startProxy(t)
	c := connect(t, p)
	c.say("one")
	c.hear("one")
	c.say("two")
	if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.hear("two")
	if _, err := c.in.ReadString('\n'); err != io.EOF {
		t.Errorf("after a half close: %v, want EOF", err)
	}
}

func TestProxyCutsAndHeals(t *testing.T) {
	p, _ := startProxy(t)
	c := connect(t, p)
	c.say("one")
	c.hear("one")
	p.Set("a", Fault{Cut: true})
	if _, err := c.in.ReadString('\n'); err == nil {
		t.Error("a cut connection still speaks")
	}
	// The kernel accepts before the proxy resets, so dialling may succeed.
	if conn, err := net.Dial("tcp", p.Address()); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a new connection through the cut works")
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	p.Heal()
	healed := connect(t, p)
	healed.say("back")
	healed.hear("back")
}

func TestProxyCutsOneSourceOnly(t *testing.T) {
	p, _ := startProxy(t)
	p.Set("b", Fault{Cut: true})
	c := connect(t, p)
	c.say("still")
	c.hear("still")
	p.Set("", Fault{Cut: true})
	if _, err := c.in.ReadString('\n'); err == nil {
		t.Error("a fault for every source spares one")
	}
}

func TestProxyStallsOneWay(t *testing.T) {
	t.Run("to the target", func(t *testing.T) {
		p, heard := startProxy(t)
		c := connect(t, p)
		p.Set("a", Fault{StallIn: true})
		c.say("held")
		c.silent()
		if len(heard) != 0 {
			t.Errorf("the target heard %q", <-heard)
		}
		p.Heal()
		c.hear("held")
	})
	t.Run("from the target", func(t *testing.T) {
		p, heard := startProxy(t)
		c := connect(t, p)
		p.Set("a", Fault{StallOut: true})
		c.say("one way")
		if line := <-heard; line != "one way" {
			t.Errorf("the target heard %q", line)
		}
		c.silent()
		p.Set("a", Fault{})
		c.hear("one way")
	})
}

func TestProxyDelays(t *testing.T) {
	p, _ := startProxy(t)
	p.Set("a", Fault{Delay: 30 * time.Millisecond})
	c := connect(t, p)
	began := time.Now()
	c.say("late")
	c.hear("late")
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("there and back in %s, want 60ms at least", took)
	}
}

func TestProxyClosesStalledLinks(t *testing.T) {
	target, _ := startEcho(t)
	p, err := NewProxy(t.Context(), "127.0.0.1:0", target, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Set("", Fault{StallIn: true, StallOut: true})
	c := connect(t, p)
	c.say("never")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.ReadString('\n'); err == nil {
		t.Error("the connection outlives its proxy")
	}
}

func TestOwnerOfPort(t *testing.T) {
	target, _ := startEcho(t)
	conn, err := net.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	from, to := portOf(conn.LocalAddr()), portOf(conn.RemoteAddr())
	var s sockets
	if name, err := s.owner(t.Context(), from, to, map[string]int{"me": os.Getpid()}); err != nil || name != "me" {
		t.Errorf("owner of our own port is %q, %v", name, err)
	}
	if name, err := s.ownerNow(from, to, map[string]int{"other": os.Getppid()}); err == nil {
		t.Errorf("our port belongs to %q", name)
	}
}

// A port may have a connection to each of several addresses: whose is which is told
// by where it goes.
func TestOwnerOfASharedPort(t *testing.T) {
	first, _ := startEcho(t)
	second, _ := startEcho(t)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, Control: shareAddress}
	var s sockets
	inodes := map[string]bool{}
	for _, address := range []string{first, second} {
		conn, err := dialer.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		dialer.LocalAddr = conn.LocalAddr()
		if err := Eventually(t.Context(), "its line in the kernel's table", func(context.Context) error {
			inode, err := s.inode(portOf(conn.LocalAddr()), portOf(conn.RemoteAddr()))
			inodes[inode] = err == nil
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	delete(inodes, "") // of a try that found none
	if len(inodes) != 2 {
		t.Errorf("two connections of %s are the sockets %v", dialer.LocalAddr, inodes)
	}
}

// shareAddress lets connections to several addresses come from one port, as the kernel
// does by itself where it chooses the port and has few left.
func shareAddress(_, _ string, conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	})
	return errors.Join(err, failed)
}

func TestEventuallyReportsTheLastError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Eventually(ctx, "nothing", func(context.Context) error { return io.ErrNoProgress })
	if err == nil || !errorsIs(err, io.ErrNoProgress, context.DeadlineExceeded) {
		t.Errorf("error %v, want both the deadline and the check's error", err)
	}
	calls := 0
	err = Eventually(t.Context(), "nothing", func(context.Context) error { calls++; return Final(io.ErrNoProgress) })
	if calls != 1 || !errorsIs(err, io.ErrNoProgress) {
		t.Errorf("%d calls, error %v, want one and the final error", calls, err)
	}
}
