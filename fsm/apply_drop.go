package fsm

import (
	pb "holdfast/proto/holdfast/v1"
)

// dropped ends recipients that were marked as spam when their message was
// accepted. Any other is not dropped by whatever event says so.
func (t *tx) dropped(e *pb.Dropped) *pb.EventResult {
	m := t.messageOf(e.MessageId)
	if m == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no such message")
	}
	ending := make([]*recipient, 0, len(e.Recipients))
	for i, d := range e.Recipients {
		if i > 0 && d.Recipient <= e.Recipients[i-1].Recipient {
			return invalid("the recipients of %s aren't in ascending order", m.id)
		}
		r := t.recipient(m, d.Recipient)
		if !t.mayEnd(r, e.Claim) {
			return stale("recipient %d of %s is not under this claim", d.Recipient, m.id)
		}
		if !r.rec.Recipient.GetSpam() {
			return invalid("recipient %d of %s is not marked as spam", d.Recipient, m.id)
		}
		ending = append(ending, r)
	}
	for i, r := range ending {
		t.drop(m, r, e, e.Recipients[i].Failure)
	}
	t.saveMessage(m)
	return resultOK
}

func (t *tx) drop(m *message, r *recipient, e *pb.Dropped, failure *pb.Failure) {
	t.unclaim(r)
	r.rec.State, r.rec.EndedAt = pb.RecipientState_RECIPIENT_STATE_DROPPED, t.event.Time
	r.rec.NextAttempt = 0
	if failure != nil {
		r.rec.LastError = failure
	}
	if e.Claim != nil {
		r.rec.Attempts++
	}
	t.markDoubt(m, r, e.Attempt, failure)
	t.saveRecipient(m, r)
	t.addHistory(m, &pb.HistoryRecord{
		Kind: pb.HistoryRecord_KIND_DROPPED, Recipients: []uint32{r.number}, Attempt: e.Attempt,
		Failure: failure, Text: droppedText(e.Reason),
	})
}

func droppedText(reason pb.Dropped_Reason) string {
	switch reason {
	case pb.Dropped_REASON_REJECTED:
		return "marked as spam, and refused for good"
	case pb.Dropped_REASON_EXPIRED:
		return "marked as spam, and its retention is over"
	case pb.Dropped_REASON_ATTEMPTS:
		return "marked as spam, and all attempts of the policy have failed"
	case pb.Dropped_REASON_RETURNED:
		return "marked as spam, so its return by an operator makes no report"
	}
	return "marked as spam"
}
