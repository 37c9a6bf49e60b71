package delivery

import (
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// sortMarked takes apart what was marked as spam when it was accepted: it is
// never returned (R8).
func sortMarked(recipients []ended) (marked, others []ended) {
	for _, e := range recipients {
		if e.record.Recipient.GetSpam() {
			marked = append(marked, e)
		} else {
			others = append(others, e)
		}
	}
	return marked, others
}

// drop ends marked recipients without a report, and counts them once the log has it.
func (s *Scheduler) drop(id relay.MessageID, claim *pb.ClaimRef, recipients []ended, reason pb.Bounced_Reason, attempt *pb.Attempt) (taken bool) {
	if len(recipients) == 0 {
		return false
	}
	dropped := &pb.Dropped{Claim: claim, MessageId: id[:], Attempt: attempt, Reason: pb.Dropped_REASON_REJECTED}
	label := "rejected"
	switch reason {
	case pb.Bounced_REASON_EXPIRED:
		dropped.Reason, label = pb.Dropped_REASON_EXPIRED, "expired"
	case pb.Bounced_REASON_ATTEMPTS:
		dropped.Reason, label = pb.Dropped_REASON_ATTEMPTS, "attempts"
	case pb.Bounced_REASON_RETURNED:
		dropped.Reason, label = pb.Dropped_REASON_RETURNED, "returned"
	}
	for _, e := range recipients {
		dropped.Recipients = append(dropped.Recipients, &pb.Dropped_Recipient{Recipient: e.number, Failure: failureOf(e)})
	}
	taken = s.proposeEnd(claim, func() *pb.Event {
		return s.event(&pb.Event{Kind: &pb.Event_Dropped{Dropped: dropped}})
	}, nil)
	if !taken {
		return false
	}
	s.metrics.dropped.WithLabelValues(label).Add(float64(len(recipients)))
	s.log.Info("dropped", "id", id, "recipients", len(recipients), "reason", "marked as spam, "+label)
	return true
}
