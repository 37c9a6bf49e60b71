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
	ending, refusal := endingOf(t, m, e, e.Recipients)
	if refusal != nil {
		return refusal
	}
	for _, r := range ending {
		if !r.rec.Recipient.GetSpam() {
			return invalid("recipient %d of %s is not marked as spam", r.number, m.id)
		}
		if e.Reason == pb.Dropped_REASON_RETURNED && !isReturning(r.rec) {
			return stale("recipient %d of %s is not to be returned", r.number, m.id)
		}
	}
	for i, r := range ending {
		failure := e.Recipients[i].Failure
		if e.Reason == pb.Dropped_REASON_REJECTED {
			t.endValid(r, failure)
		}
		t.end(m, r, e, pb.RecipientState_RECIPIENT_STATE_DROPPED, failure)
		r.rec.EndedAt = t.event.Time
		t.saveRecipient(m, r)
		t.addHistory(m, &pb.HistoryRecord{
			Kind: pb.HistoryRecord_KIND_DROPPED, Recipients: []uint32{r.number}, Attempt: e.Attempt,
			Failure: failure, Text: droppedText(e.Reason),
		})
	}
	t.saveMessage(m)
	return resultOK
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
