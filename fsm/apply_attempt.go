package fsm

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// attemptStarted grants claims, each by itself.
func (t *tx) attemptStarted(e *pb.AttemptStarted) *pb.EventResult {
	granted := 0
	for _, claim := range e.Claims {
		if t.grant(claim) {
			granted++
		}
	}
	if granted == 0 {
		return stale("no claim holds")
	}
	return resultOK
}

// grant checks a claim: its proposer owns the destination at this index, the
// destination isn't suspended, it is up or this is its probe, and the recipients
// are pending and unclaimed. Recipients that aren't are left out of it.
func (t *tx) grant(c *pb.AttemptStarted_Claim) bool {
	destination, ok := lookup(t.tables.destinations, c.Destination)
	if !ok || destination.Suspended != nil || t.tables.owner(destination) != t.node {
		return false
	}
	up := destination.Health.GetState() == pb.DestinationHealth_STATE_UP
	if !up && (!c.Probe || t.s.claims.hasProbe(c.Destination)) {
		return false
	}
	m := t.messageOf(c.MessageId)
	if m == nil {
		return false
	}
	if _, taken := t.s.claims.get(t.event.Incarnation, c.Attempt); taken {
		return false
	}
	ref := &pb.ClaimRef{Incarnation: t.event.Incarnation, Attempt: c.Attempt}
	record := &pb.ClaimRecord{
		MessageId: c.MessageId, Destination: c.Destination, Probe: !up, ClaimedAt: t.event.Time,
	}
	for _, number := range c.Recipients {
		r := t.recipient(m, number)
		if r == nil || r.rec.State != pb.RecipientState_RECIPIENT_STATE_PENDING ||
			r.rec.Claim != nil || r.rec.Ordered != nil || r.rec.Destination != c.Destination {
			continue
		}
		r.rec.Claim, r.rec.ClaimedAt, r.rec.Probe = ref, t.event.Time, record.Probe
		t.saveRecipient(m, r)
		record.Recipients = append(record.Recipients, number)
	}
	if len(record.Recipients) == 0 {
		return false
	}
	t.put(keyOfPair(famClaims, ref.Incarnation, ref.Attempt), nil, encode(record))
	t.s.claims.add(ref.Incarnation, ref.Attempt, record)
	if !m.rec.Attempted {
		m.rec.Attempted = true
		t.saveMessage(m)
	}
	if t.node == t.s.cfg.Node {
		t.staged.changes.Granted = append(t.staged.changes.Granted, Grant{Claim: ref, Record: record})
	}
	return true
}

// holds reports whether a recipient is under the claim that an event names.
func holds(r *recipient, claim *pb.ClaimRef) bool {
	return r != nil && r.rec.Claim != nil && claim != nil && proto.Equal(r.rec.Claim, claim)
}

// unclaim takes a recipient out of its claim; the claim goes with its last one.
func (t *tx) unclaim(r *recipient) {
	ref := r.rec.Claim
	if ref == nil {
		return
	}
	r.rec.Claim, r.rec.ClaimedAt, r.rec.Probe = nil, 0, false
	record, ok := t.s.claims.get(ref.Incarnation, ref.Attempt)
	if !ok {
		return
	}
	key := keyOfPair(famClaims, ref.Incarnation, ref.Attempt)
	left := slices.DeleteFunc(slices.Clone(record.Recipients), func(n uint32) bool { return n == r.number })
	t.remove(key, encode(record))
	if len(left) == 0 {
		t.s.claims.remove(ref.Incarnation, ref.Attempt)
		t.staged.changes.touch(record.Destination)
		return
	}
	record = proto.Clone(record).(*pb.ClaimRecord)
	record.Recipients = left
	t.put(key, nil, encode(record))
	t.s.claims.add(ref.Incarnation, ref.Attempt, record)
}

// attemptFailed counts only for the current claim: a failure that arrives after
// a takeover says nothing of the attempt that is now under way.
func (t *tx) attemptFailed(e *pb.AttemptFailed) *pb.EventResult {
	m := t.messageOf(e.MessageId)
	if m == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no such message")
	}
	changed := false
	for _, failed := range e.Recipients {
		r := t.recipient(m, failed.Recipient)
		if !holds(r, e.Claim) {
			continue
		}
		changed = true
		t.unclaim(r)
		r.rec.NextAttempt, r.rec.LastError = failed.NextAttempt, failed.Failure
		if !e.Uncounted {
			r.rec.Attempts++
		}
		t.markDoubt(m, r, e.Attempt, failed.Failure)
		t.addHistory(m, &pb.HistoryRecord{
			Kind: pb.HistoryRecord_KIND_ATTEMPT_FAILED, Recipients: []uint32{failed.Recipient},
			Attempt: e.Attempt, Failure: failed.Failure, NextAttempt: failed.NextAttempt,
		})
		t.carryOut(m, r)
		t.saveRecipient(m, r)
	}
	if !changed {
		return stale("the claim is not the current one")
	}
	t.saveMessage(m)
	return resultOK
}

// markDoubt counts an attempt whose outcome nobody knows: the content was sent
// whole and no reply came.
func (t *tx) markDoubt(m *message, r *recipient, attempt *pb.Attempt, failure *pb.Failure) {
	if !failure.GetInDoubt() {
		return
	}
	r.rec.InDoubt++
	t.addHistory(m, &pb.HistoryRecord{
		Kind: pb.HistoryRecord_KIND_IN_DOUBT, Recipients: []uint32{r.number}, Attempt: attempt, Failure: failure,
	})
}

// delivered ends recipients whoever sends it: a message that has arrived must
// not be sent again, not even when its deletion is undone. One for a recipient that had
// ended for good is a duplicate, unless it is the same attempt told twice. One that went to an address that the recipient
// no longer has ends nothing.
func (t *tx) delivered(e *pb.Delivered) *pb.EventResult {
	m := t.messageOf(e.MessageId)
	if m == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no such message")
	}
	report := t.relayed(m, e)
	for _, d := range e.Recipients {
		r := t.recipient(m, d.Recipient)
		if r == nil {
			continue
		}
		if earlier := addressTaken(r, e.Claim, d); earlier != nil {
			t.deliveredElsewhere(m, r, e, d, earlier)
			continue
		}
		if !keepsBody(r.rec) {
			t.countDuplicate(m, r, e, d)
			continue
		}
		t.keepValid(r)
		t.unclaim(r)
		r.rec.State, r.rec.EndedAt = pb.RecipientState_RECIPIENT_STATE_DELIVERED, t.event.Time
		r.rec.DeliveredBy, r.rec.NextAttempt = e.Claim, 0
		r.rec.UndoUntil, r.rec.UndoState = 0, 0
		r.rec.Attempts++
		t.saveRecipient(m, r)
		row := deliveryRow(pb.HistoryRecord_KIND_DELIVERED, e, d)
		row.Report = report
		t.addHistory(m, row)
	}
	t.saveMessage(m)
	return resultOK
}

// addressTaken is the address that took a message, nil where it is the recipient's
// own: it may have been redirected since its claim was revoked. Under the current
// claim it can't be, redirections wait for that.
func addressTaken(r *recipient, claim *pb.ClaimRef, d *pb.Delivered_Recipient) *pb.Recipient {
	if holds(r, claim) || d.Earlier == nil || int(*d.Earlier) >= len(r.rec.Earlier) {
		return nil
	}
	if earlier := r.rec.Earlier[*d.Earlier]; !sameMailbox(earlier, r.rec.Recipient) {
		return earlier
	}
	return nil // it was redirected there and back
}

func sameMailbox(a, b *pb.Recipient) bool {
	localA, domainA, errA := relay.SplitAddress(a.GetAddress())
	localB, domainB, errB := relay.SplitAddress(b.GetAddress())
	return errA == nil && errB == nil && localA == localB && domainA == domainB
}

// deliveredElsewhere keeps that an address took the message which was the
// recipient's own then. The one that it has now is owed it as before. Told twice it
// makes one row, or two where the recipient had ended.
func (t *tx) deliveredElsewhere(m *message, r *recipient, e *pb.Delivered, d *pb.Delivered_Recipient, earlier *pb.Recipient) {
	if toldBefore(r, e.Claim) {
		return
	}
	if keepsBody(r.rec) {
		r.rec.DeliveredBy = e.Claim
		t.saveRecipient(m, r)
	}
	row := deliveryRow(pb.HistoryRecord_KIND_DELIVERED_ELSEWHERE, e, d)
	row.Text = fmt.Sprintf("%s took it, which it was for until it was redirected", earlier.GetAddress())
	if d.Text != "" {
		row.Text += ": " + d.Text
	}
	t.addHistory(m, row)
}

// toldBefore reports whether it is known of this very attempt that it delivered.
func toldBefore(r *recipient, claim *pb.ClaimRef) bool {
	return claim != nil && proto.Equal(r.rec.DeliveredBy, claim)
}

func (t *tx) countDuplicate(m *message, r *recipient, e *pb.Delivered, d *pb.Delivered_Recipient) {
	if toldBefore(r, e.Claim) {
		return
	}
	t.counter('d', countedDomain(r.rec)).Duplicates++
	t.counter('D', r.rec.Destination).Duplicates++
	t.addHistory(m, deliveryRow(pb.HistoryRecord_KIND_DUPLICATE, e, d))
}

func deliveryRow(kind pb.HistoryRecord_Kind, e *pb.Delivered, d *pb.Delivered_Recipient) *pb.HistoryRecord {
	return &pb.HistoryRecord{
		Kind: kind, Recipients: []uint32{d.Recipient}, Attempt: e.Attempt, Text: d.Text,
	}
}

// claimsReleased gives claims back. Where the content may have reached the
// remote, its recipients are in doubt before anyone may try again.
func (t *tx) claimsReleased(e *pb.ClaimsReleased) *pb.EventResult {
	released := 0
	for _, claim := range e.Claims {
		m := t.messageOf(claim.MessageId)
		if m == nil {
			continue
		}
		var numbers []uint32
		for _, number := range claim.Recipients {
			r := t.recipient(m, number)
			if !holds(r, claim.Claim) {
				continue
			}
			t.unclaim(r)
			r.rec.NextAttempt = t.event.Time
			if claim.InDoubt {
				r.rec.InDoubt++
			}
			t.carryOut(m, r)
			t.saveRecipient(m, r)
			numbers = append(numbers, number)
		}
		if len(numbers) == 0 {
			continue
		}
		released++
		if claim.InDoubt {
			t.addHistory(m, &pb.HistoryRecord{Kind: pb.HistoryRecord_KIND_IN_DOUBT, Recipients: numbers})
		}
		t.saveMessage(m)
	}
	if released == 0 {
		return stale("no claim is the current one")
	}
	return resultOK
}

// maxDeaths: a recipient whose attempts outlived this many nodes' deaths is held
// until an operator looks at it, lest a message kill node after node.
const maxDeaths = 2

// revokeClaims takes all claims of an ended incarnation back. Nobody knows how
// far its attempts came: they are in doubt, and due again.
func (t *tx) revokeClaims(incarnation uint64, node string) {
	for _, attempt := range t.s.claims.attempts(incarnation) {
		record, ok := t.s.claims.get(incarnation, attempt)
		if !ok {
			continue
		}
		m := t.messageOf(record.MessageId)
		if m == nil {
			t.failed(errClaimWithoutMessage(relay.MessageID(record.MessageId)))
			return
		}
		t.revoke(m, record.Recipients, node)
	}
}

func (t *tx) revoke(m *message, numbers []uint32, node string) {
	var doubted, held []uint32
	for _, number := range slices.Clone(numbers) {
		r := t.recipient(m, number)
		if r == nil {
			continue
		}
		t.unclaim(r)
		r.rec.InDoubt++
		r.rec.Deaths++
		r.rec.NextAttempt = t.event.Time
		doubted = append(doubted, number)
		if r.rec.Deaths >= maxDeaths {
			r.rec.State, r.rec.NextAttempt = pb.RecipientState_RECIPIENT_STATE_HELD, 0
			held = append(held, number)
		}
		t.carryOut(m, r)
		t.saveRecipient(m, r)
	}
	t.addHistory(m, &pb.HistoryRecord{Kind: pb.HistoryRecord_KIND_IN_DOUBT, Recipients: doubted, Node: node})
	if len(held) > 0 {
		t.addHistory(m, &pb.HistoryRecord{
			Kind: pb.HistoryRecord_KIND_HELD, Recipients: held, Node: node,
			Text: "in doubt through the deaths of two nodes",
		})
	}
	t.saveMessage(m)
}
