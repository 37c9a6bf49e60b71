package delivery

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/race"
)

// awayServer is a mail server on pipes that refuses connections, or takes all.
type awayServer struct {
	back  atomic.Bool
	taken atomic.Int64
	first atomic.Int64 // nanoseconds since 1970, of the first message taken
	open  atomic.Int64
	most  atomic.Int64
	conns sync.WaitGroup
}

func (s *awayServer) dial(_ context.Context, network, _ string) (net.Conn, error) {
	if !s.back.Load() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	s.conns.Go(func() { s.serve(theirs) })
	return ours, nil
}

func (s *awayServer) serve(conn net.Conn) {
	defer conn.Close()
	s.most.Store(max(s.most.Load(), s.open.Add(1)))
	defer s.open.Add(-1)
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 away.test")
	content := false
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch verb, _, _ := strings.Cut(lines.Text(), " "); {
		case content && verb == ".":
			content = false
			pass(100 * time.Millisecond)
			s.first.CompareAndSwap(0, time.Now().UnixNano())
			s.taken.Add(1)
			say("250 taken")
		case content:
		case verb == "DATA":
			content = true
			say("354 go on")
		case verb == "QUIT":
			say("221 goodbye")
			return
		default:
			say("250 ok")
		}
	}
}

// B3: a day's outage costs the log under 1,000 events, whatever waits, and no
// message an attempt. The first goes out within the probe interval, and the
// slots are full within 10 s of it.
func TestOutageOfADay(t *testing.T) {
	for _, messages := range []int{30, 1000} {
		t.Run(fmt.Sprint(messages, " messages"), func(t *testing.T) {
			if race.Enabled && messages > 100 {
				t.Skip("a day of virtual time with a long queue: without the race detector")
			}
			synctest.Test(t, func(t *testing.T) { outageOfADay(t, messages) })
		})
	}
}

func outageOfADay(t *testing.T, messages int) {
	const slots, longest = 20, 5 * time.Minute
	w := newWorld(t, "a", "b")
	w.ctx = t.Context()
	// What ticks without mail ticks more slowly: there are 86,400 seconds.
	w.timing = Timing{Reconcile: 10 * time.Minute, Rescan: 10 * time.Minute, Expire: 10 * time.Minute, Idle: 10 * time.Minute}
	server := &awayServer{}
	w.dial = server.dial
	w.set(&pb.DestinationConfig{
		Name: "dest", Slots: slots, Tls: "none", ProbeMax: int64(longest), Hosts: []*pb.DestinationConfig_Host{{Address: "192.0.2.1:25"}},
	})
	w.route("example.test", "dest", 0)
	ids := w.acceptMany(messages, "example.test")
	before := w.log.count(func(*pb.Event) bool { return true })
	w.runAll()
	pass(24 * time.Hour)
	events := w.log.count(func(*pb.Event) bool { return true }) - before
	probes := w.health("dest").Failed
	t.Logf("%d messages, a day: %d probes, %d events, %d connections", messages, probes, events, w.dials())
	if events >= 1000 || probes < 250 {
		t.Errorf("%d events of %d probes in a day, want fewer than 1,000", events, probes)
	}
	if w.dials() > int64(probes)+2 {
		t.Errorf("%d connections for %d probes", w.dials(), probes)
	}
	for _, id := range ids {
		if r := w.recipient(id, 0); r.Attempts != 0 || r.State != pb.RecipientState_RECIPIENT_STATE_PENDING {
			t.Fatalf("%s with %d attempts", r.State, r.Attempts)
		}
	}
	server.back.Store(true)
	back := time.Now()
	for server.first.Load() == 0 && time.Since(back) < time.Hour {
		pass(100 * time.Millisecond)
	}
	first := time.Unix(0, server.first.Load())
	if wait := first.Sub(back); wait < 0 || wait > longest+longest/10+time.Second {
		t.Errorf("the first message was taken after %s", wait)
	}
	for server.open.Load() < slots && server.taken.Load() < int64(messages) && time.Since(first) < time.Minute {
		pass(100 * time.Millisecond)
	}
	if took := time.Since(first); messages > 500 && (server.open.Load() < slots || took > 10*time.Second) {
		t.Errorf("%d connections %s after the first delivery", server.open.Load(), took)
	}
	for w.counter("dest").Delivered < uint64(messages) && time.Since(first) < time.Hour {
		pass(time.Second)
	}
	if got := server.taken.Load(); got != int64(messages) || server.most.Load() > slots {
		t.Errorf("%d messages taken of %d, over %d connections at once", got, messages, server.most.Load())
	}
	for _, n := range w.nodes {
		n.stop()
	}
	server.conns.Wait()
}
