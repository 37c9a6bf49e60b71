package delivery

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// A node without a file descriptor left blames no host for it: the mail waits a little,
// and no attempt counts, be the destination up or in the middle of an outage.
func TestNoFileDescriptorLeft(t *testing.T) {
	for name, failures := range map[string]int{"up": 0, "down": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			s := w.sink(sink.Config{})
			var short atomic.Int64
			short.Store(5)
			w.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if short.Add(-1) >= 0 {
					return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EMFILE}
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
			w.route("example.test", "dest", 2, s.Addr())
			for range failures {
				w.destinationFails("dest", w.clock.now())
			}
			ids := w.acceptMany(3, "example.test")
			w.runAll()
			w.awaitDelivered("dest", 3)
			w.checkOnce(ids, s)
			for _, id := range ids {
				if r := w.recipient(id, 0); r.Attempts != 1 && failures == 0 {
					t.Errorf("%d attempts are counted", r.Attempts)
				}
			}
			if n := w.log.count(func(e *pb.Event) bool { return e.GetDestinationFailed() != nil }); n != failures {
				t.Errorf("%d failures of the destination", n)
			}
		})
	}
}
