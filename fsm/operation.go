package fsm

import (
	"slices"
	"strings"

	pb "holdfast/proto/holdfast/v1"
)

// MaxReason bounds the reason that an operator gives, in bytes.
const MaxReason = 500

// operable lists the states that each operation is for.
var operable = map[pb.Operation_Kind][]pb.RecipientState{
	pb.Operation_KIND_RETRY:    {pb.RecipientState_RECIPIENT_STATE_PENDING},
	pb.Operation_KIND_HOLD:     {pb.RecipientState_RECIPIENT_STATE_PENDING},
	pb.Operation_KIND_RELEASE:  {pb.RecipientState_RECIPIENT_STATE_HELD},
	pb.Operation_KIND_BOUNCE:   {pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD},
	pb.Operation_KIND_UNDELETE: {pb.RecipientState_RECIPIENT_STATE_DELETED},
	pb.Operation_KIND_THAW:     {pb.RecipientState_RECIPIENT_STATE_FROZEN},
	pb.Operation_KIND_DELETE: {
		pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD, pb.RecipientState_RECIPIENT_STATE_FROZEN,
	},
	pb.Operation_KIND_REDIRECT: {
		pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD, pb.RecipientState_RECIPIENT_STATE_FROZEN,
	},
}

// OperableStates are the states that an operation is for.
func OperableStates(kind pb.Operation_Kind) []pb.RecipientState { return operable[kind] }

// takesBack is what an operation calls off where it still waits for the end of an attempt.
var takesBack = map[pb.Operation_Kind]pb.Operation_Kind{
	pb.Operation_KIND_RELEASE:  pb.Operation_KIND_HOLD,
	pb.Operation_KIND_UNDELETE: pb.Operation_KIND_DELETE,
}

// Refusal says why an operation doesn't fit a recipient, as what follows its
// address in a sentence; "" where it does. What depends on the configuration
// shows only when the event is applied.
func Refusal(op *pb.Operation, m *pb.MessageRecord, r *pb.RecipientRecord) string {
	waiting := r.Ordered.GetOperation().GetKind()
	switch {
	case waitsFor(r) != 0 && waitsFor(r) == takesBack[op.Kind]:
		return ""
	case !slices.Contains(operable[op.Kind], r.State):
		return "is " + StateWord(r.State)
	case op.Kind == pb.Operation_KIND_UNDELETE && r.UndoUntil == 0:
		return "is deleted, and the time to undo it is over"
	case op.Kind == pb.Operation_KIND_RETRY && r.Claim != nil:
		return "is being tried right now"
	case op.Kind == pb.Operation_KIND_RETRY && waiting == pb.Operation_KIND_BOUNCE:
		return "is about to be returned"
	case op.Kind == pb.Operation_KIND_BOUNCE && len(m.ReportOn) > 0:
		return "is a report, which causes none itself: delete it"
	case op.Kind == pb.Operation_KIND_BOUNCE && waiting == pb.Operation_KIND_BOUNCE:
		return "is about to be returned already"
	}
	return ""
}

// OperationWord is an operation in the contract's word.
func OperationWord(kind pb.Operation_Kind) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "KIND_"))
}

// StateWord is a state in the contract's word.
func StateWord(state pb.RecipientState) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "RECIPIENT_STATE_"))
}
