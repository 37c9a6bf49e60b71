package admin

import (
	"fmt"
	"strings"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// causes answers "why is it stuck?", nearest cause first. A recipient that has
// ended has none.
func (w window) causes(r *pb.RecipientRecord) []string {
	switch r.State {
	case pb.RecipientState_RECIPIENT_STATE_HELD:
		return heldCauses(r)
	case pb.RecipientState_RECIPIENT_STATE_FROZEN:
		causes := []string{"frozen: it is a report, and a report that fails is not tried again by itself"}
		if _, ok := w.Domain(r.Domain); !ok && r.LastError == nil {
			causes = append(causes, fmt.Sprintf("its domain %s isn't configured here, so there is nowhere to send it", relay.DomainOf(r.Recipient.GetAddress())))
		}
		return appendFailure(causes, "last attempt", r.LastError)
	case pb.RecipientState_RECIPIENT_STATE_PENDING:
		return w.pendingCauses(r)
	}
	return nil
}

func heldCauses(r *pb.RecipientRecord) []string {
	causes := []string{"held: no attempt is made until it is released"}
	if r.HeldBy != nil {
		causes = []string{"held by " + ordered(r.HeldBy) + ": no attempt is made until it is released"}
	}
	if r.Deaths > 0 {
		causes = append(causes, fmt.Sprintf("%d of its attempts ended with the death of the node that made them", r.Deaths))
	}
	return appendFailure(causes, "last attempt", r.LastError)
}

func (w window) pendingCauses(r *pb.RecipientRecord) []string {
	var causes []string
	if !w.quorum {
		causes = append(causes, "this node has no quorum: nothing is delivered from it, and what it shows may be old")
	}
	if r.Claim != nil {
		causes = append(causes, w.claimCause(r))
		if r.Ordered != nil {
			causes = append(causes, fmt.Sprintf("%s ordered by %s: it follows unless that attempt ends it",
				fsm.OperationWord(r.Ordered.Operation.GetKind()), ordered(r.Ordered)))
		}
		return causes
	}
	if r.Ordered != nil {
		return append(causes, w.returnCause(r))
	}
	destination, ok := w.Destination(r.Destination)
	if !ok {
		return append(causes, fmt.Sprintf("destination %s is not configured", r.Destination))
	}
	if s := destination.Suspended; s != nil {
		causes = append(causes, fmt.Sprintf("destination %s is suspended since %s by %s%s: no attempt is made until it is resumed",
			r.Destination, stamp(s.Since), s.By, inBrackets(s.Reason)))
	}
	health := destination.Health
	switch health.GetState() {
	case pb.DestinationHealth_STATE_DOWN:
		causes = append(causes,
			fmt.Sprintf("destination %s is down since %s (%s)", r.Destination, stamp(health.Since), describe(health.Failure)))
	case pb.DestinationHealth_STATE_SUSPECT:
		causes = append(causes,
			fmt.Sprintf("node %s could not reach destination %s at %s (%s)", health.FirstNode, r.Destination, stamp(health.Since), describe(health.Failure)))
	}
	switch {
	case troubled(health) && destination.Suspended != nil:
		return causes // without probes
	case troubled(health):
		return append(causes, w.probeCause(r.Destination, health))
	}
	if destination.Suspended != nil {
		return appendFailure(causes, "last attempt", r.LastError)
	}
	if time.Unix(0, r.NextAttempt).After(w.now) {
		causes = appendFailure(causes, "last attempt", r.LastError)
		return append(causes, "next attempt at "+stamp(r.NextAttempt))
	}
	owner, ok := w.Owner(r.Destination)
	if !ok {
		return append(causes, fmt.Sprintf("no node is up to deliver to destination %s", r.Destination))
	}
	causes = append(causes, fmt.Sprintf("due since %s, %s", stamp(r.NextAttempt), w.slotCause(r.Destination, owner, int(destination.Config.GetSlots()))))
	return appendFailure(causes, "last attempt", r.LastError)
}

// slotCause tells a destination that has no room from one that others come first at.
func (w window) slotCause(destination, owner string, slots int) string {
	if w.claims == nil {
		return fmt.Sprintf("waiting for a slot of destination %s on node %s (%d slots)", destination, owner, slots)
	}
	const everybody = 0 // no incarnation has this number
	switch used := w.claims(destination, everybody); {
	case used >= slots:
		return fmt.Sprintf("no slot is free: all %d of destination %s on node %s are in use", slots, destination, owner)
	default:
		return fmt.Sprintf("waiting for its turn: node %s has %d of %d slots of destination %s in use", owner, used, slots, destination)
	}
}

// returnCause: nothing but the report keeps a return.
func (w window) returnCause(r *pb.RecipientRecord) string {
	cause := "its return was ordered by " + ordered(r.Ordered) + ": no attempt is made, its report is being written"
	if owner, ok := w.Owner(r.Destination); ok {
		cause += " by node " + owner
	}
	return cause
}

// ordered says who ordered an operation, when and why.
func ordered(o *pb.OperationRecord) string {
	text := fmt.Sprintf("%s at %s", o.Operation.GetBy(), stamp(o.At))
	if reason := o.Operation.GetReason(); reason != "" {
		text += fmt.Sprintf(" (%s)", reason)
	}
	return text
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func (w window) claimCause(r *pb.RecipientRecord) string {
	node := "an earlier node"
	for _, n := range w.Nodes() {
		if n.Incarnation == r.Claim.GetIncarnation() {
			node = "node " + n.Name
		}
	}
	attempt := "attempt"
	if r.Probe {
		attempt = "probe of destination " + r.Destination
	}
	return fmt.Sprintf("%s under way: claimed by %s since %s", attempt, node, stamp(r.ClaimedAt))
}

func (w window) probeCause(destination string, health *pb.DestinationHealth) string {
	cause := "next probe at " + stamp(health.NextProbe)
	if owner, ok := w.Owner(destination); ok {
		cause += " by node " + owner
	}
	return cause
}

func appendFailure(causes []string, what string, f *pb.Failure) []string {
	if f == nil {
		return causes
	}
	return append(causes, fmt.Sprintf("%s failed at %s (%s)", what, stamp(f.At), describe(f)))
}

// describe writes a failure in one line, the remote's own words last.
func describe(f *pb.Failure) string {
	if f == nil {
		return "cause unknown"
	}
	var b strings.Builder
	if f.Host != "" {
		b.WriteString(f.Host + ": ")
	}
	fmt.Fprintf(&b, "%s at %s", f.Cause, f.Phase)
	if f.Own {
		b.WriteString(", not sent: " + f.Text)
		return b.String()
	}
	reply := strings.Join(strings.Fields(fmt.Sprintf("%s %s", f.Enhanced, f.Text)), " ")
	switch {
	case f.Code != 0:
		fmt.Fprintf(&b, ": %d %s", f.Code, reply)
	case reply != "":
		b.WriteString(": " + reply)
	}
	return strings.TrimSpace(b.String())
}

func stamp(nanoseconds int64) string {
	return time.Unix(0, nanoseconds).UTC().Format(time.RFC3339)
}
