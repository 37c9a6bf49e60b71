package fsm

import (
	pb "holdfast/proto/holdfast/v1"
)

// ending is an event that takes recipients of a message off the queue, each for
// a failure or for none.
type ending interface {
	GetClaim() *pb.ClaimRef
	GetAttempt() *pb.Attempt
}

// endingRecipient is a recipient as such an event names it.
type endingRecipient interface {
	GetRecipient() uint32
	GetFailure() *pb.Failure
}

// endingOf finds the recipients that an event names. It holds for all of them or
// for none.
func endingOf[R endingRecipient](t *tx, m *message, e ending, named []R) ([]*recipient, *pb.EventResult) {
	found := make([]*recipient, 0, len(named))
	for i, n := range named {
		if i > 0 && n.GetRecipient() <= named[i-1].GetRecipient() {
			return nil, invalid("the recipients of %s aren't in ascending order", m.id)
		}
		r := t.recipient(m, n.GetRecipient())
		if !mayEnd(r, e.GetClaim()) {
			return nil, stale("recipient %d of %s is not under this claim", n.GetRecipient(), m.id)
		}
		found = append(found, r)
	}
	return found, nil
}

// mayEnd: an outcome ends what is under its claim; without a claim (expiry) it
// ends what is pending and under none.
func mayEnd(r *recipient, claim *pb.ClaimRef) bool {
	if claim != nil {
		return holds(r, claim)
	}
	return r != nil && r.rec.State == pb.RecipientState_RECIPIENT_STATE_PENDING && r.rec.Claim == nil
}

// end takes a recipient off the queue into another state.
func (t *tx) end(m *message, r *recipient, e ending, state pb.RecipientState, failure *pb.Failure) {
	t.unclaim(r)
	r.rec.State, r.rec.NextAttempt = state, 0
	if failure != nil {
		r.rec.LastError = failure
	}
	if e.GetClaim() == nil {
		return // the failure is of an attempt that was told before
	}
	r.rec.Attempts++
	t.markDoubt(m, r, e.GetAttempt(), failure)
}
