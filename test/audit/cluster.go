package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
	"holdfast/test/sink"
)

// Patience of each step.
const (
	drainPatience  = 3 * time.Minute
	readPatience   = 3 * time.Minute
	verifyPatience = 30 * time.Second
)

// Cluster waits for an empty queue, and then compares the books with the log
// that the cluster's first node has. It asks for the destination's book only
// then: what arrives meanwhile belongs to it.
func Cluster(ctx context.Context, j *Journal, c *harness.Cluster, books Books, arrived func() []sink.Message) (Doubtful, error) {
	if err := drain(ctx, j, c.Nodes[0], books.HeldAllowed); err != nil {
		j.Violation("%v", err)
	}
	books.Transactions = arrived()
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	conn, err := c.Nodes[0].Dial()
	if err != nil {
		return Doubtful{}, err
	}
	var found Doubtful
	if books.logged, err = readLog(ctx, conn); err == nil {
		books.marks = func(m *pb.Message) ([]time.Time, error) { return marks(ctx, conn, m) }
		found, err = books.check(j)
	}
	return found, errors.Join(err, conn.Close())
}

// drain waits until nothing is pending, nor held unless that is allowed.
func drain(ctx context.Context, j *Journal, node *harness.Node, heldAllowed bool) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	err := harness.Eventually(ctx, "an empty queue", func(ctx context.Context) error {
		var status harness.Status
		if err := node.JSON(ctx, &status, "status"); err != nil {
			return err
		}
		q := status.Queue
		if q.Pending > 0 || q.Held > 0 && !heldAllowed {
			return fmt.Errorf("%d recipients pending, %d held", q.Pending, q.Held)
		}
		if q.Failed+q.Frozen > 0 {
			return harness.Final(fmt.Errorf("%d recipients failed, %d frozen", q.Failed, q.Frozen))
		}
		return nil
	})
	j.Say("queue empty %s after the load", time.Since(began).Round(time.Millisecond))
	return err
}

// readLog reads the whole log of messages, by the ids that the senders gave them.
func readLog(ctx context.Context, conn *grpc.ClientConn) (map[string]*pb.Message, error) {
	client := pb.NewLogServiceClient(conn)
	all := map[string]*pb.Message{}
	request := &pb.SearchLogRequest{PageSize: 1000}
	for {
		page, err := client.SearchLog(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("read the log of messages: %w", err)
		}
		for _, m := range page.Messages {
			id, _, _ := strings.Cut(m.From, "@")
			all[id] = m
		}
		if page.NextPageToken == "" {
			return all, nil
		}
		request.PageToken = page.NextPageToken
	}
}

// marks are the times at which a message was marked in doubt, in log order.
func marks(ctx context.Context, conn *grpc.ClientConn, m *pb.Message) ([]time.Time, error) {
	log, err := pb.NewLogServiceClient(conn).GetLog(ctx, &pb.GetLogRequest{Id: m.Id})
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", m.Id, err)
	}
	var times []time.Time
	for _, row := range log.History {
		if row.Kind == pb.HistoryRecord_KIND_IN_DOUBT {
			times = append(times, row.Time.AsTime())
		}
	}
	return times, nil
}

// verified is what `holdfast cluster verify --json` says.
type verified struct {
	Index     uint64 `json:"index"`
	Identical bool   `json:"identical"`
	Nodes     []struct {
		Name  string  `json:"name"`
		Error *string `json:"error"`
	} `json:"nodes"`
}

// Verify compares the states of all nodes. One that doesn't answer counts as
// one that differs: all of them should run by then.
func Verify(ctx context.Context, j *Journal, c *harness.Cluster) {
	ctx, cancel := context.WithTimeout(ctx, verifyPatience)
	defer cancel()
	var v verified
	if err := c.Nodes[0].JSON(ctx, &v, "cluster", "verify"); err != nil {
		j.Violation("cluster verify: %v", err)
		return
	}
	for _, n := range v.Nodes {
		if n.Error != nil {
			j.Violation("cluster verify: node %s: %s", n.Name, *n.Error)
		}
	}
	if !v.Identical || len(v.Nodes) != len(c.Nodes) {
		j.Violation("cluster verify: %+v", v)
		return
	}
	j.Say("cluster verify: %d nodes agree at index %d", len(v.Nodes), v.Index)
}
