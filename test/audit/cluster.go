package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

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
// that the cluster's first node has.
func Cluster(ctx context.Context, j *Journal, c *harness.Cluster, books Books, arrived func() []sink.Message) (Findings, error) {
	if err := drain(ctx, j, c.Nodes[0], books.HeldAllowed); err != nil {
		j.Violation("%v", err)
	}
	return Compare(ctx, j, c.Nodes[0], books, time.Time{}, arrived)
}

// Compare holds the books against the log that a node has of the messages that
// were accepted since then, while mail goes on. It asks for the destination's book
// only when it has read the log: what that has as delivered is in it then.
func Compare(ctx context.Context, j *Journal, node *harness.Node, books Books, since time.Time, arrived func() []sink.Message) (found Findings, err error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	conn, err := node.Dial()
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if books.logged, err = readLog(ctx, conn, since); err != nil {
		return found, err
	}
	books.Transactions = arrived()
	books.marks = func(m *pb.Message) ([]time.Time, error) { return marks(ctx, conn, m) }
	return books.check(j)
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

// readLog reads the log of the messages accepted since then, by the ids that the
// senders gave them; the zero time is all.
func readLog(ctx context.Context, conn *grpc.ClientConn, since time.Time) (map[string]*pb.Message, error) {
	client := pb.NewLogServiceClient(conn)
	all := map[string]*pb.Message{}
	request := &pb.SearchLogRequest{PageSize: 1000, Filter: &pb.MessageFilter{}}
	if !since.IsZero() {
		request.Filter.Since = timestamppb.New(since)
	}
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

// Verify compares the states of all nodes and reports whether they are alike. One
// that doesn't answer counts as one that differs: all that c has should run by
// then.
func Verify(ctx context.Context, j *Journal, c *harness.Cluster) bool {
	ctx, cancel := context.WithTimeout(ctx, verifyPatience)
	defer cancel()
	var v verified
	if err := c.Nodes[0].JSON(ctx, &v, "cluster", "verify"); err != nil {
		j.Violation("cluster verify: %v", err)
		return false
	}
	compared := 0
	for _, n := range v.Nodes {
		_, unknown := c.Node(n.Name)
		switch {
		case n.Error == nil:
			compared++
		case unknown == nil:
			j.Violation("cluster verify: node %s: %s", n.Name, *n.Error)
		default:
			j.Say("cluster verify: node %s, which is gone: %s", n.Name, *n.Error)
		}
	}
	if !v.Identical || compared != len(c.Nodes) {
		j.Violation("cluster verify: %+v", v)
		return false
	}
	j.Say("cluster verify: %d nodes agree at index %d", compared, v.Index)
	return true
}
