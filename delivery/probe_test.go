package delivery

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// A probe that hangs at hosts that the destination has no longer ends with them: what
// waits goes to the new ones at once. With mail that waits, and without.
func TestProbeEndsWithTheHosts(t *testing.T) {
	for name, mails := range map[string]int{"a message": 2, "nobody": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			hangs := w.sink(sink.Config{Answer: sink.On(sink.Connect, sink.Reply{Hold: w.ctx.Done()})})
			moved := w.sink(sink.Config{})
			w.route("example.test", "dest", 5, hangs.Addr())
			for range 2 {
				w.destinationFails("dest", w.clock.now())
			}
			ids := w.acceptMany(mails, "example.test")
			w.runAll()
			must(t, hangs.WaitStats(w.ctx, func(s sink.Stats) bool { return s.Connections == 1 }))
			w.destination("dest", 5, moved.Addr())
			w.await("it has recovered", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_UP })
			w.awaitDelivered("dest", uint64(mails))
			w.checkOnce(ids, moved)
			if n := hangs.Stats().Connections; n != 1 {
				t.Errorf("%d connections to the old host", n)
			}
		})
	}
}

// Other hosts are a new beginning: what this side couldn't give the old ones they may take.
func TestReconfigurationIsAskedWithAMessage(t *testing.T) {
	q := upQueue(5)
	q.record.Health.State = pb.DestinationHealth_STATE_DOWN
	q.silent = true
	same := proto.CloneOf(q.record)
	if q.update(same); !q.silent {
		t.Error("nothing was changed")
	}
	other := proto.CloneOf(q.record)
	other.Config.Hosts = []*pb.DestinationConfig_Host{{Address: "127.0.0.2:25"}}
	if q.update(other); q.silent {
		t.Error("a stranger is next")
	}
}
