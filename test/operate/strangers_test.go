package operate_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	pb "holdfast/proto/holdfast/v1"
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
	before := map[*harness.Node]float64{} // leases lost
	for _, n := range w.Nodes {
		before[n], err = n.Metric(w.ctx, "holdfast_leases_lost_total")
		w.must(err)
	}
	tail := w.tailWithToken(leader)
	const many = 300
	calls, pages := w.strangers(leader.Admin, many), w.strangers(leader.HTTP, many)

	w.must(leader.WaitReady(w.ctx))
	other := w.follower()
	w.insist(other, "cluster", "transfer", other.Name)
	w.insist(other, "cluster", "transfer", leader.Name) // the others dial it anew
	w.awaitArrivals(200)
	for _, n := range w.Nodes {
		if lost, err := n.Metric(w.ctx, "holdfast_leases_lost_total"); err != nil || lost > before[n] {
			t.Errorf("node %s lost its lease %v times, %v", n.Name, lost-before[n], err)
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
	w.goesOn(tail, leader)
	w.endLoad()
	w.audit(0)
}

// tailWithToken follows the log over a connection of its own, with no certificate.
func (w *world) tailWithToken(n *harness.Node) grpc.ServerStreamingClient[pb.TailLogResponse] {
	w.t.Helper()
	secret := strings.TrimSpace(w.cli(n, "token", "create", "--name", "reader", "--role", "viewer"))
	conn, err := grpc.NewClient(n.Admin, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
	w.must(err)
	w.t.Cleanup(func() { conn.Close() })
	ctx := metadata.AppendToOutgoingContext(w.ctx, "authorization", "Bearer "+secret)
	tail, err := pb.NewLogServiceClient(conn).TailLog(ctx, &pb.TailLogRequest{})
	w.must(err)
	_, err = tail.Recv()
	w.must(err)
	return tail
}

// goesOn wants what is happening at a node now from whoever has followed its log.
func (w *world) goesOn(tail grpc.ServerStreamingClient[pb.TailLogResponse], n *harness.Node) {
	w.t.Helper()
	var now struct {
		Nodes []struct {
			Name         string
			AppliedIndex uint64
		}
	}
	w.must(n.JSON(w.ctx, &now, "status"))
	for _, known := range now.Nodes {
		for next := uint64(0); known.Name == n.Name && next <= known.AppliedIndex; {
			r, err := tail.Recv()
			if err != nil {
				w.t.Fatalf("who has a token was cut off at index %d of %d: %v", next, known.AppliedIndex, err)
			}
			next = r.NextIndex
		}
	}
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
