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

// audit compares three books: what the clients were told, what the destination
// has, and what the cluster's log says. limit is how many messages may have
// come more than once.
func (w *world) audit(ctx context.Context, report *load.Report, d *destination, limit int) (doubtful, error) {
	if err := w.drain(ctx, report, d); err != nil {
		w.violation("%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var found doubtful
	conn, err := w.cluster.Nodes[0].Dial()
	if err != nil {
		return found, err
	}
	logged, err := readLog(ctx, conn)
	if err == nil {
		copies := d.copies()
		w.checkAnswers(report, copies, logged)
		w.checkContents(copies)
		marks := func(m *pb.Message) ([]time.Time, error) { return doubts(ctx, conn, m) }
		found, err = w.checkDuplicates(copies, logged, limit, marks)
		err = errors.Join(err, w.checkOverlaps(d.Messages(), logged, marks))
	}
	return found, errors.Join(err, conn.Close())
}

// drain waits until every accepted id is at the destination and the queue is
// empty; it gives up after three minutes.
func (w *world) drain(ctx context.Context, report *load.Report, d *destination) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	err := harness.Eventually(ctx, "an empty queue", func(ctx context.Context) error {
		var status harness.Status
		if err := w.cluster.Nodes[0].JSON(ctx, &status, "status"); err != nil {
			return err
		}
		if open := status.Queue.Pending + status.Queue.Held; open > 0 {
			return fmt.Errorf("%d recipients pending, %d held", status.Queue.Pending, status.Queue.Held)
		}
		if status.Queue.Failed+status.Queue.Frozen > 0 {
			return harness.Final(fmt.Errorf("%d recipients failed, %d frozen", status.Queue.Failed, status.Queue.Frozen))
		}
		return nil
	})
	w.say("queue empty %s after the load; the destination has taken %d messages", time.Since(began).Round(time.Millisecond), d.Stats().Committed)
	return err
}

// readLog reads the whole log of messages, by the ids of their senders.
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

// checkAnswers holds each answer against the other two books.
func (w *world) checkAnswers(report *load.Report, copies map[string][]sink.Message, logged map[string]*pb.Message) {
	lost, unlogged, refusedArrived, deferredArrived, unknownArrived := 0, 0, 0, 0, 0
	for _, a := range report.Answers {
		arrived := len(copies[a.ID]) > 0
		switch {
		case a.Outcome == load.Accepted && !arrived:
			lost++
			if lost <= 5 {
				w.say("lost: %s, queue id %s, accepted by %s at %s: %s", a.ID, a.QueueID, a.Address, a.At.Format(time.RFC3339Nano), describe(logged[a.ID]))
			}
		case (a.Outcome == load.Refused || a.Outcome == load.Lost) && arrived:
			refusedArrived++
		case a.Outcome == load.Deferred && arrived:
			deferredArrived++
		case a.Outcome == load.Unknown && arrived:
			unknownArrived++
		}
		if a.Outcome != load.Accepted {
			continue
		}
		if m := logged[a.ID]; m == nil || m.Id != a.QueueID || m.State != pb.RecipientState_RECIPIENT_STATE_DELIVERED {
			unlogged++
			if unlogged <= 5 {
				w.say("not delivered by the log: %s, queue id %s: %s", a.ID, a.QueueID, describe(m))
			}
		}
	}
	w.say("answers: %d accepted, %d deferred (4xx), %d refused (5xx), %d cut off before the final dot, %d after it; %.0f accepted/s, p50 %s, p99 %s, max %s",
		report.Count(load.Accepted), report.Count(load.Deferred), report.Count(load.Refused), report.Count(load.Lost), report.Count(load.Unknown),
		report.Rate(), report.Latency(0.5).Round(10*time.Microsecond), report.Latency(0.99).Round(10*time.Microsecond), report.Latency(1).Round(10*time.Microsecond))
	w.say("arrived though not answered 250: %d with a lost reply, %d deferred", unknownArrived, deferredArrived)
	w.say("LOST: %d", lost)
	if lost > 0 {
		w.violation("%d messages answered 250 never arrived", lost)
	}
	if unlogged > 0 {
		w.violation("%d messages answered 250 aren't in the log as delivered", unlogged)
	}
	if refusedArrived > 0 {
		w.violation("%d messages that were refused or cut off before their end arrived", refusedArrived)
	}
	if report.Count(load.Refused) > 0 {
		w.violation("%d messages were refused for good (5xx)", report.Count(load.Refused))
	}
	if report.Count(load.Accepted) == 0 {
		w.violation("nothing was accepted")
	}
}

func describe(m *pb.Message) string {
	if m == nil {
		return "not in the log"
	}
	return fmt.Sprintf("message %s, %s", m.Id, m.State)
}

// checkContents compares every copy with the checksum that it carries.
func (w *world) checkContents(copies map[string][]sink.Message) {
	spoilt := 0
	for _, all := range copies {
		for _, m := range all {
			if _, err := load.Identify(m.Data); err != nil {
				spoilt++
				w.say("spoilt: %v", err)
			}
		}
	}
	if spoilt > 0 {
		w.violation("%d messages arrived changed", spoilt)
	}
}

// doubtful counts what came, or may have come, more than once.
type doubtful struct{ duplicates, inDoubt, held int }

// checkDuplicates wants each further copy to have begun after the log marked
// the message in doubt. doubts gives the times of these marks in log order.
func (w *world) checkDuplicates(copies map[string][]sink.Message, logged map[string]*pb.Message, limit int, doubts func(*pb.Message) ([]time.Time, error)) (doubtful, error) {
	var found doubtful
	for _, m := range logged {
		for _, r := range m.Recipients {
			if r.InDoubt > 0 {
				found.inDoubt++
			}
			if r.State == pb.RecipientState_RECIPIENT_STATE_HELD {
				found.held++
			}
		}
	}
	for id, all := range copies {
		if len(all) == 1 {
			continue
		}
		found.duplicates += len(all) - 1
		marks, err := marksOf(logged[id], doubts)
		if err != nil {
			return found, err
		}
		for i, again := range all[1:] {
			if i >= len(marks) || again.Started.Before(marks[i]) {
				w.violation("%s arrived again at %s without having been marked in doubt before (marks: %v)", id, again.Started.Format(time.RFC3339Nano), marks)
			}
		}
	}
	w.say("DUPLICATES: %d, at most %d allowed; marked in doubt: %d, of these held: %d", found.duplicates, limit, found.inDoubt, found.held)
	if found.duplicates > limit {
		w.violation("%d duplicates, but the slots in use at the deaths were %d", found.duplicates, limit)
	}
	return found, nil
}

// doubts are the times at which a message was marked in doubt, in log order.
func doubts(ctx context.Context, conn *grpc.ClientConn, m *pb.Message) ([]time.Time, error) {
	log, err := pb.NewLogServiceClient(conn).GetLog(ctx, &pb.GetLogRequest{Id: m.Id})
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", m.Id, err)
	}
	var marks []time.Time
	for _, row := range log.History {
		if row.Kind == pb.HistoryRecord_KIND_IN_DOUBT {
			marks = append(marks, row.Time.AsTime())
		}
	}
	return marks, nil
}
