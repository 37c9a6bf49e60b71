package admin

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// window is a view of the state as messages are shown through it to one caller, at
// one index and one time.
type window struct {
	*fsm.View
	now    time.Time
	quorum bool
	caller caller
	log    *slog.Logger
	flow   *Flow // nil where the node has none
	// claims counts the live claims on a destination but those of an incarnation;
	// nil in listings, which say the same of now and of the past, and for limited callers.
	claims func(destination string, but uint64) int
}

// window opens a view; release it.
func (n *node) window(ctx context.Context) (window, error) {
	view, err := n.State.View()
	if err != nil {
		return window{}, readError(err, "the state")
	}
	return window{View: view, now: n.Now(), quorum: n.Cluster.Leased(), caller: callerOf(ctx), log: n.Logger, flow: n.Flow}, nil
}

// closeLook is a window for one message, which tells more of why it waits. How much of
// a shared destination others' mail takes is nothing for limited callers.
func (n *node) closeLook(ctx context.Context) (window, error) {
	w, err := n.window(ctx)
	if !w.caller.limited() {
		w.claims = n.State.ForeignClaims
	}
	return w, err
}

// release closes the view. The answer is complete by then, so that a failure
// concerns only the node.
func (w window) release() {
	if err := w.Close(); err != nil {
		w.log.Error("close a view of the state", "error", err)
	}
}

// message shows a message with its recipients.
func (w window) message(id relay.MessageID) (*pb.Message, []recipient, error) {
	record, recipients, err := w.read(id)
	if err != nil {
		return nil, nil, err
	}
	m := &pb.Message{
		Id:              id.String(),
		From:            record.Envelope.GetFrom(),
		Size:            record.Content.GetSize(),
		AcceptedAt:      timestamp(record.AcceptedAt),
		State:           messageState(recipients),
		ClientAddress:   record.Origin.GetClientAddress(),
		Helo:            record.Origin.GetHelo(),
		Node:            record.Origin.GetNode(),
		HeaderMessageId: record.HeaderMessageId,
	}
	if !w.caller.limited() {
		m.Account = record.Origin.GetAccount() // half of a credential, and the sender's
	}
	if reported, err := relay.MessageIDFromBytes(record.ReportOn); err == nil {
		m.ReportOn = reported.String()
	}
	for _, r := range recipients {
		m.Recipients = append(m.Recipients, w.recipient(record, r.RecipientRecord))
	}
	return m, recipients, nil
}

// stateOrder ranks states: a message has the first found among its recipients.
var stateOrder = []pb.RecipientState{
	pb.RecipientState_RECIPIENT_STATE_HELD,
	pb.RecipientState_RECIPIENT_STATE_PENDING,
	pb.RecipientState_RECIPIENT_STATE_FROZEN,
	pb.RecipientState_RECIPIENT_STATE_BOUNCED,
	pb.RecipientState_RECIPIENT_STATE_DROPPED,
	pb.RecipientState_RECIPIENT_STATE_DELETED,
	pb.RecipientState_RECIPIENT_STATE_DELIVERED,
}

func messageState(recipients []recipient) pb.RecipientState {
	for _, state := range stateOrder {
		if slices.ContainsFunc(recipients, func(r recipient) bool { return r.State == state }) {
			return state
		}
	}
	return pb.RecipientState_RECIPIENT_STATE_UNSPECIFIED
}

// recipient shows one recipient. While its destination is down the next
// attempt is the probe's and the failure is the destination's (R4): its own
// next attempt would promise what the outage doesn't let happen.
func (w window) recipient(m *pb.MessageRecord, r *pb.RecipientRecord) *pb.MessageRecipient {
	out := &pb.MessageRecipient{
		Address:     r.Recipient.GetAddress(),
		Domain:      r.Domain,
		Destination: r.Destination,
		State:       r.State,
		Attempts:    r.Attempts,
		ExpiresAt:   w.expiry(m, r),
		InDoubt:     r.InDoubt,
		Spam:        r.Recipient.GetSpam(),
		Causes:      w.causes(r),
		LastError:   deliveryError(r.LastError),
	}
	if r.State != pb.RecipientState_RECIPIENT_STATE_PENDING || r.Claim != nil || r.Ordered != nil {
		return out
	}
	out.NextAttempt, _ = w.nextTry(r)
	if health := w.health(r.Destination); health.GetState() == pb.DestinationHealth_STATE_DOWN {
		out.LastError = deliveryError(health.Failure)
	}
	return out
}

// nextTry is when a pending recipient that nobody tries right now is tried next: at
// its own time, unless its destination stands in the way, and then how it does. One
// that isn't up is only probed, and one that is suspended not even that.
func (w window) nextTry(r *pb.RecipientRecord) (at *timestamppb.Timestamp, instead string) {
	destination, ok := w.Destination(r.Destination)
	switch {
	case !ok:
	case destination.Suspended != nil:
		return nil, fmt.Sprintf("no attempt is made until destination %s is resumed", r.Destination)
	case troubled(destination.Health):
		return timestamp(destination.Health.NextProbe), fmt.Sprintf("destination %s is %s: what comes next is its probe",
			r.Destination, healthWord(destination.Health))
	}
	return timestamp(r.NextAttempt), ""
}

func healthWord(h *pb.DestinationHealth) string {
	return strings.ToLower(strings.TrimPrefix(h.GetState().String(), "STATE_"))
}

// expiry is when the recipient's retention is over, by its domain's present
// policy.
func (w window) expiry(m *pb.MessageRecord, r *pb.RecipientRecord) *timestamppb.Timestamp {
	if !waiting(r) {
		return nil
	}
	policy := w.PolicyFor(r.Domain, fsm.PendingClass(m, r))
	return timestamppb.New(fsm.RetentionFrom(m, r).Add(policy.Retention))
}

// waiting recipients are those that will still be delivered or returned.
func waiting(r *pb.RecipientRecord) bool {
	return r.State == pb.RecipientState_RECIPIENT_STATE_PENDING || r.State == pb.RecipientState_RECIPIENT_STATE_HELD
}

func (w window) health(destination string) *pb.DestinationHealth {
	record, ok := w.Destination(destination)
	if !ok {
		return nil
	}
	return record.Health
}

func deliveryError(f *pb.Failure) *pb.DeliveryError {
	if f == nil {
		return nil
	}
	out := &pb.DeliveryError{Cause: f.Cause, Phase: f.Phase, Host: f.Host, Text: f.Text, At: timestamp(f.At)}
	if !f.Own {
		out.Code, out.Enhanced = f.Code, f.Enhanced // else nobody has answered so
	}
	return out
}
