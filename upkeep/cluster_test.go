package upkeep_test

import (
	"context"
	"fmt"
	"net/smtp"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
)

// A bulk operation outlives a kill -9 of the node that took the call and carries
// it out: the next leader goes on where it stood, and hits each recipient once.
func TestBulkOutlivesItsLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := startCluster(ctx, t)
	leader, err := c.Leader(ctx)
	must(t, err)
	const messages, recipients = 100, 100
	fill(ctx, t, leader, messages, recipients)

	conn, err := leader.Dial()
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	queue := pb.NewQueueServiceClient(conn)
	started, err := queue.StartBulk(ctx, &pb.StartBulkRequest{
		Operation: &pb.QueueOperation{Kind: pb.Operation_KIND_HOLD, Reason: "ticket 4711"}, All: true,
	})
	must(t, err)
	watch, err := queue.WatchBulk(ctx, &pb.WatchBulkRequest{BulkId: started.BulkId})
	must(t, err)
	for done := uint64(0); done == 0; {
		r, err := watch.Recv()
		must(t, err)
		if r.Bulk.FinishedAt != nil {
			t.Fatal("it was finished before anything could happen to it")
		}
		done = r.Bulk.Recipients
	}
	must(t, leader.Kill())

	bulk := followed(ctx, t, without(c, leader), started.BulkId)
	// Some are being tried as the destination's probe: the hold waits for that.
	if bulk.Recipients+bulk.Waiting != messages*recipients || bulk.Messages != messages || bulk.Refused != 0 {
		t.Errorf("in the end: %v", bulk)
	}
	must(t, leader.Start())
	must(t, c.WaitReady(ctx))
	stopOverDeath(ctx, t, c, messages*recipients)
}

// stopOverDeath stops the release of what is held, at a node that doesn't lead, and
// kills the leader right after. Nothing is released any more, whoever leads, and
// every node knows who stopped it, the dead one too once it is back.
func stopOverDeath(ctx context.Context, t *testing.T, c *harness.Cluster, held uint64) {
	t.Helper()
	leader, err := c.Leader(ctx)
	must(t, err)
	must(t, harness.Eventually(ctx, "all are held, the probe too", func(ctx context.Context) error {
		return wantHeld(ctx, leader, held)
	}))
	conn, err := without(c, leader).Dial()
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	queue := pb.NewQueueServiceClient(conn)
	started, err := queue.StartBulk(ctx, &pb.StartBulkRequest{Operation: &pb.QueueOperation{Kind: pb.Operation_KIND_RELEASE}, All: true})
	must(t, err)
	stopped, err := queue.StopBulk(ctx, &pb.StopBulkRequest{BulkId: started.BulkId, Reason: "a mistake"})
	must(t, err)
	must(t, leader.Kill())
	must(t, leader.Start())
	must(t, c.WaitReady(ctx))
	for _, n := range c.Nodes {
		if bulk := followed(ctx, t, n, started.BulkId); !proto.Equal(bulk, stopped.Bulk) {
			t.Errorf("node %s: %v, and the stop was answered %v", n.Name, bulk, stopped.Bulk)
		}
		if err := wantHeld(ctx, n, held-stopped.Bulk.Recipients); err != nil {
			t.Errorf("node %s, of %d: %v", n.Name, held, err)
		}
	}
	t.Logf("%d of %d were released before the stop", stopped.Bulk.Recipients, held)
}

func wantHeld(ctx context.Context, n *harness.Node, want uint64) error {
	var count struct{ Held uint64 }
	if err := n.JSON(ctx, &count, "queue", "count"); err != nil {
		return err
	}
	if count.Held != want {
		return fmt.Errorf("%d are held, want %d", count.Held, want)
	}
	return nil
}

// fill queues mail for a destination where nothing listens.
func fill(ctx context.Context, t *testing.T, n *harness.Node, messages, recipients int) {
	t.Helper()
	addresses, err := harness.FreeAddresses(1)
	must(t, err)
	for _, args := range [][]string{
		{"destination", "set", "office", "--host", addresses[0]}, {"domain", "set", "example.test", "--destination", "office", "--verify", "off"},
	} {
		_, err := n.CLI(ctx, args...)
		must(t, err)
	}
	to := make([]string, recipients)
	for i := range to {
		to[i] = fmt.Sprintf("r%d@example.test", i)
	}
	for range messages {
		must(t, smtp.SendMail(n.SMTP, nil, "s@elsewhere.test", to, []byte("Subject: test\r\n\r\nHello.\r\n")))
	}
	err = harness.Eventually(ctx, "the destination is down", func(ctx context.Context) error {
		out, err := n.CLI(ctx, "destination", "show", "office", "--json")
		if err == nil && !strings.Contains(string(out), `"down"`) {
			return fmt.Errorf("it is %s", out)
		}
		return err
	})
	must(t, err)
}

func followed(ctx context.Context, t *testing.T, n *harness.Node, id string) *pb.Bulk {
	t.Helper()
	conn, err := n.Dial()
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	watch, err := pb.NewQueueServiceClient(conn).WatchBulk(ctx, &pb.WatchBulkRequest{BulkId: id})
	must(t, err)
	for {
		r, err := watch.Recv()
		must(t, err)
		if r.Bulk.FinishedAt != nil {
			return r.Bulk
		}
	}
}

// without is a node of the cluster that isn't the one named.
func without(c *harness.Cluster, other *harness.Node) *harness.Node {
	for _, n := range c.Nodes {
		if n != other {
			return n
		}
	}
	return nil
}

func startCluster(ctx context.Context, t *testing.T) *harness.Cluster {
	t.Helper()
	// A socket's path must be short, so not in t.TempDir.
	dir, err := os.MkdirTemp("", "hf")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	binary, err := harness.Build(ctx, dir)
	must(t, err)
	c, err := harness.Start(ctx, harness.Config{Binary: binary, Dir: dir, Nodes: 3})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Tails(30))
		}
		must(t, c.Close())
	})
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
