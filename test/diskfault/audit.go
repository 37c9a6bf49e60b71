package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// heldAfter is how many attempts of unknown outcome hold a recipient; from then
// on an operator decides.
const heldAfter = 2

// audit compares the clients' answers, the mail at the destination and the log,
// once the queue is empty, and the nodes with each other.
func (w *world) audit(ctx context.Context) error {
	if err := w.drain(ctx); err != nil {
		w.violation("%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	conn, err := w.cluster.Nodes[0].Dial()
	if err != nil {
		return err
	}
	logged, err := readLog(ctx, conn)
	if err == nil {
		copies := w.copies()
		w.checkAnswers(copies, logged)
		err = w.checkCopies(ctx, conn, copies, logged)
	}
	w.verify(ctx)
	return errors.Join(err, conn.Close())
}

// drain waits until nothing is pending.
func (w *world) drain(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	err := harness.Eventually(ctx, "an empty queue", func(ctx context.Context) error {
		var status harness.Status
		if err := w.cluster.Nodes[0].JSON(ctx, &status, "status"); err != nil {
			return err
		}
		if status.Queue.Pending > 0 {
			return fmt.Errorf("%d recipients pending", status.Queue.Pending)
		}
		if status.Queue.Failed+status.Queue.Frozen > 0 {
			return harness.Final(fmt.Errorf("%d recipients failed, %d frozen", status.Queue.Failed, status.Queue.Frozen))
		}
		return nil
	})
	w.say("queue empty %s after the load", time.Since(began).Round(time.Millisecond))
	return err
}

// readLog reads the log of messages, by the ids that the senders gave them.
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

// copies are the messages that arrived, by id, in the order of arrival.
func (w *world) copies() map[string][]sink.Message {
	all := map[string][]sink.Message{}
	for _, m := range w.sink.Messages() {
		if m.Committed {
			all[m.ID] = append(all[m.ID], m)
		}
	}
	return all
}

// isHeld reports a message that waits for an operator as it should: attempts of
// unknown outcome were made, as many as it takes.
func isHeld(m *pb.Message) bool {
	for _, r := range m.GetRecipients() {
		if r.State == pb.RecipientState_RECIPIENT_STATE_HELD && r.InDoubt >= heldAfter {
			return true
		}
	}
	return false
}

func (w *world) checkAnswers(copies map[string][]sink.Message, logged map[string]*pb.Message) {
	counts := map[load.Outcome]int{}
	lost, held, refusedArrived := 0, 0, 0
	for _, a := range w.answers {
		counts[a.Outcome]++
		arrived := len(copies[a.ID]) > 0
		m := logged[a.ID]
		switch {
		case a.Outcome == load.Refused || a.Outcome == load.Lost:
			if arrived {
				refusedArrived++
			}
		case a.Outcome != load.Accepted:
		case m.GetId() == a.QueueID && isHeld(m):
			held++
		case !arrived || m.GetId() != a.QueueID || m.GetState() != pb.RecipientState_RECIPIENT_STATE_DELIVERED:
			lost++
			if lost <= 5 {
				w.say("lost: %s, queue id %s, accepted by %s at %s; %d copies arrived; the log says %s %s",
					a.ID, a.QueueID, a.Address, a.At.Format(time.RFC3339Nano), len(copies[a.ID]), m.GetId(), m.GetState())
			}
		}
	}
	w.say("answers: %d accepted, %d deferred (4xx), %d refused (5xx), %d cut off before the final dot, %d after it",
		counts[load.Accepted], counts[load.Deferred], counts[load.Refused], counts[load.Lost], counts[load.Unknown])
	w.say("LOST: %d; held for an operator after %d attempts in doubt: %d", lost, heldAfter, held)
	if lost > 0 {
		w.violation("%d messages answered 250 didn't arrive, or the log doesn't say so", lost)
	}
	if refusedArrived > 0 {
		w.violation("%d messages arrived that were refused or cut off before their end", refusedArrived)
	}
	if counts[load.Refused] > 0 {
		w.violation("%d messages were refused for good (5xx)", counts[load.Refused])
	}
	if counts[load.Accepted] == 0 {
		w.violation("nothing was accepted")
	}
}

// checkCopies wants each copy whole, and each further one begun after the log
// marked the message in doubt.
func (w *world) checkCopies(ctx context.Context, conn *grpc.ClientConn, copies map[string][]sink.Message, logged map[string]*pb.Message) error {
	duplicates, inDoubt := 0, 0
	for _, m := range logged {
		for _, r := range m.Recipients {
			if r.InDoubt > 0 {
				inDoubt++
			}
		}
	}
	for id, all := range copies {
		for _, m := range all {
			if _, err := load.Identify(m.Data); err != nil {
				w.violation("%s arrived changed: %v", id, err)
			}
		}
		if len(all) == 1 {
			continue
		}
		duplicates += len(all) - 1
		marks, err := doubts(ctx, conn, logged[id])
		if err != nil {
			return err
		}
		for i, again := range all[1:] {
			if i >= len(marks) || again.Started.Before(marks[i]) {
				w.violation("%s arrived again at %s without having been marked in doubt before (marks: %v)", id, again.Started.Format(time.RFC3339Nano), marks)
			}
		}
	}
	w.say("DUPLICATES: %d, marked in doubt: %d", duplicates, inDoubt)
	return nil
}

// doubts are the times at which a message was marked in doubt, in log order.
func doubts(ctx context.Context, conn *grpc.ClientConn, m *pb.Message) (marks []time.Time, err error) {
	if m == nil {
		return nil, nil
	}
	log, err := pb.NewLogServiceClient(conn).GetLog(ctx, &pb.GetLogRequest{Id: m.Id})
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", m.Id, err)
	}
	for _, row := range log.History {
		if row.Kind == pb.HistoryRecord_KIND_IN_DOUBT {
			marks = append(marks, row.Time.AsTime())
		}
	}
	return marks, nil
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

// verify compares the states of all nodes; one that doesn't answer differs.
func (w *world) verify(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var v verified
	if err := w.cluster.Nodes[0].JSON(ctx, &v, "cluster", "verify"); err != nil {
		w.violation("cluster verify: %v", err)
		return
	}
	for _, n := range v.Nodes {
		if n.Error != nil {
			w.violation("cluster verify: node %s: %s", n.Name, *n.Error)
		}
	}
	if !v.Identical || len(v.Nodes) != len(w.cluster.Nodes) {
		w.violation("cluster verify: %+v", v)
		return
	}
	w.say("cluster verify: %d nodes agree at index %d", len(v.Nodes), v.Index)
}
