package operate_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"holdfast/test/harness"
)

// Whoever opens connections without end, and says nothing, loses them: the other
// nodes, /readyz and /metrics get in all the same.
func TestStrangersKeepNobodyOut(t *testing.T) {
	w := startWith(t, harness.Config{Nodes: 3, Direct: true, TLS: true})
	leader, err := w.Leader(w.ctx)
	w.must(err)
	w.load("strangers", 3, w.SMTP()...)
	w.awaitArrivals(50)
	const many = 300
	calls, pages := w.strangers(leader.Admin, many), w.strangers(leader.HTTP, many)

	w.must(leader.WaitReady(w.ctx))
	other := w.follower()
	w.cli(other, "cluster", "transfer", other.Name)
	w.cli(other, "cluster", "transfer", leader.Name) // the others dial it anew
	w.awaitArrivals(200)
	for _, n := range w.Nodes {
		if lost, err := n.Metric(w.ctx, "holdfast_leases_lost_total"); err != nil || lost > 0 {
			t.Errorf("node %s lost its lease %v times, %v", n.Name, lost, err)
		}
	}
	for door, conns := range map[string][]net.Conn{"grpc": calls, "http": pages} {
		ended, err := leader.Metric(w.ctx, `holdfast_connections_ended_total{door="`+door+`"}`)
		if err != nil || ended < many-64 {
			t.Errorf("%s: %v connections were ended, %v; %d were opened", door, ended, err, many)
		}
		w.must(conns[0].SetReadDeadline(time.Now().Add(10 * time.Second)))
		if _, err := io.Copy(io.Discard, conns[0]); errors.Is(err, net.ErrClosed) || isTimeout(err) {
			t.Errorf("%s: the first of them is still open: %v", door, err)
		}
	}
	w.endLoad()
	w.audit(0)
}

// strangers opens connections that say nothing.
func (w *world) strangers(address string, count int) (conns []net.Conn) {
	w.t.Helper()
	for range count {
		conn, err := net.DialTimeout("tcp", address, 10*time.Second)
		w.must(err)
		w.t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	return conns
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
