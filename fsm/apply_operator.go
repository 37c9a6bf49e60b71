package fsm

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// maxOperated is how many recipients one event operates on.
const maxOperated = 1000

// maxOperationText bounds what is copied into each record and history row.
const maxOperationText = 4 << 10

// maxRedirections bounds the addresses that a recipient keeps of its past.
const maxRedirections = 10

// operated carries out an operator's operation on recipients, each by itself.
func (t *tx) operated(e *pb.Operated) *pb.EventResult {
	if refusal := t.checkOperation(e.Operation); refusal != nil {
		return refusal
	}
	if n := countTargets(e.Targets); n == 0 || n > maxOperated {
		return invalid("an operation is on 1 to %d recipients, not %d", maxOperated, n)
	}
	done := t.operateAll(e.Operation, e.Targets, bulkPart{})
	if done.changed+done.waiting == 0 {
		return stale("nothing was changed: %s", done.refusal)
	}
	return &pb.EventResult{
		Code: pb.EventResult_CODE_OK, Changed: uint32(done.changed), Waiting: uint32(done.waiting),
	}
}

func countTargets(targets []*pb.Target) int {
	n := 0
	for _, target := range targets {
		n += len(target.Recipients)
	}
	return n
}

// checkOperation refuses an operation that no recipient could be subject to.
func (t *tx) checkOperation(op *pb.Operation) *pb.EventResult {
	if op == nil || op.Kind <= pb.Operation_KIND_UNSPECIFIED || op.Kind > pb.Operation_KIND_THAW {
		return invalid("unknown operation %d", op.GetKind())
	}
	if len(op.Domains) > MaxTokenDomains {
		return invalid("operation: it is limited to %d domains, %d at most", len(op.Domains), MaxTokenDomains)
	}
	if len(op.By)+len(op.Reason)+len(op.Address)+len(op.Destination) > maxOperationText {
		return invalid("operation: who and why are longer than %d bytes", maxOperationText)
	}
	if op.Kind != pb.Operation_KIND_REDIRECT {
		return nil
	}
	switch {
	case (op.Destination == "") == (op.Address == ""):
		return invalid("a redirection needs a destination or an address, and not both")
	case op.Destination != "":
		if _, ok := lookup(t.tables.destinations, op.Destination); !ok {
			return refused(pb.EventResult_CODE_NOT_FOUND, "no destination %q", op.Destination)
		}
	default:
		if _, ok := t.route(domainOf(newAddress(op))); !ok {
			return refused(pb.EventResult_CODE_UNROUTABLE, "no domain and destination for %s", op.Address)
		}
	}
	return nil
}

// operatedCount is what an operation on many came to.
type operatedCount struct {
	messages, changed, waiting, refused uint64
	first, last                         relay.MessageID // of the messages
	refusal                             string          // of the first that was refused
}

// bulkPart is the bulk operation of which targets are a part; none has index 0.
type bulkPart struct {
	id    relay.MessageID
	index uint64 // at which it began
	noted bool
}

// changed reports whether a recipient no longer is as it was when the operation began.
func (b bulkPart) changed(m *message, r *recipient) bool {
	return b.index != 0 && (r.rec.ChangedIndex > b.index || m.rec.AcceptedIndex > b.index)
}

// operateAll carries out an operation on targets.
func (t *tx) operateAll(op *pb.Operation, targets []*pb.Target, of bulkPart) operatedCount {
	var count operatedCount
	for _, target := range targets {
		m := t.messageOf(target.MessageId)
		if m == nil {
			count.refuse(len(target.Recipients), "the message is gone")
			continue
		}
		if of.noted {
			t.note(m, of.id)
		}
		var changed, waiting []uint32
		before := count
		for _, number := range target.Recipients {
			r := t.recipient(m, number)
			if r == nil || of.changed(m, r) || !concerns(op, r.rec) {
				count.refuse(1, "the recipient has changed meanwhile")
				continue
			}
			waits, why := t.operate(op, m, r)
			switch {
			case why != "":
				count.refuse(1, fmt.Sprintf("%s of %s %s", r.rec.Recipient.GetAddress(), m.id, why))
				continue
			case waits:
				waiting = append(waiting, number)
				count.waiting++
			default:
				changed = append(changed, number)
				count.changed++
			}
			t.saveRecipient(m, r)
		}
		if count.changed+count.waiting == before.changed+before.waiting {
			if of.noted {
				t.saveMessage(m)
			}
			continue
		}
		if count.messages == 0 {
			count.first = m.id
		}
		count.messages++
		count.last = m.id
		t.addOperation(m, op, historyKind(op.Kind), changed, t.operationText(op))
		t.addOperation(m, op, pb.HistoryRecord_KIND_ORDERED, waiting,
			OperationWord(op.Kind)+" waits for the end of the attempt under way")
		t.saveMessage(m)
	}
	return count
}

// concerns: an operation of somebody who is limited to domains touches no other's
// recipient, not even one that came there since it was looked at.
func concerns(op *pb.Operation, rec *pb.RecipientRecord) bool {
	return len(op.Domains) == 0 || slices.Contains(op.Domains, rec.Domain)
}

func (c *operatedCount) refuse(n int, why string) {
	c.refused += uint64(n)
	if c.refusal == "" {
		c.refusal = why
	}
}

func (t *tx) addOperation(m *message, op *pb.Operation, kind pb.HistoryRecord_Kind, numbers []uint32, text string) {
	if len(numbers) > 0 {
		t.addHistory(m, &pb.HistoryRecord{Kind: kind, Recipients: numbers, By: op.By, Reason: op.Reason, Text: text})
	}
}

// operate changes one recipient, or leaves it an order where it is being tried:
// the attempt may deliver it yet, and only one of the two can have the last word.
func (t *tx) operate(op *pb.Operation, m *message, r *recipient) (waits bool, why string) {
	if why := Refusal(op, m.rec, r.rec); why != "" {
		return false, why
	}
	rec := r.rec
	switch op.Kind {
	case pb.Operation_KIND_RELEASE, pb.Operation_KIND_UNDELETE:
		if rec.Claim != nil {
			rec.Ordered = nil // it takes back what waits
			return false, ""
		}
	default:
		if rec.Claim != nil {
			rec.Ordered = t.ordered(op)
			return true, ""
		}
	}
	switch op.Kind {
	case pb.Operation_KIND_RETRY:
		rec.NextAttempt = t.event.Time
		t.probeNow(rec.Destination)
	case pb.Operation_KIND_HOLD:
		rec.State, rec.NextAttempt = pb.RecipientState_RECIPIENT_STATE_HELD, 0
		rec.HeldBy, rec.Ordered = t.ordered(op), nil
	case pb.Operation_KIND_RELEASE:
		// An operator has looked at it: the deaths before count no more.
		rec.State, rec.NextAttempt = pb.RecipientState_RECIPIENT_STATE_PENDING, t.event.Time
		rec.HeldBy, rec.Deaths = nil, 0
	case pb.Operation_KIND_BOUNCE:
		rec.State, rec.NextAttempt = pb.RecipientState_RECIPIENT_STATE_PENDING, 0
		rec.HeldBy, rec.Ordered = nil, t.ordered(op)
	case pb.Operation_KIND_DELETE:
		rec.UndoState, rec.State = rec.State, pb.RecipientState_RECIPIENT_STATE_DELETED
		rec.EndedAt, rec.NextAttempt = t.event.Time, 0
		rec.UndoUntil = t.undoUntil(op)
	case pb.Operation_KIND_UNDELETE:
		return false, t.undelete(rec)
	case pb.Operation_KIND_REDIRECT:
		return false, t.redirect(op, m, rec)
	case pb.Operation_KIND_THAW:
		return false, t.thaw(m, rec)
	}
	return false, ""
}

// undoUntil is until when what an operation deletes now can come back, however long
// ago it was ordered. Logs from before undo_for say it as a time.
func (t *tx) undoUntil(op *pb.Operation) int64 {
	if op.GetUndoFor() > 0 {
		return max(0, t.event.Time+op.UndoFor)
	}
	return max(0, op.GetUndoUntil())
}

// ordered is an operation as its recipients keep it: the domains were for picking
// them.
func (t *tx) ordered(op *pb.Operation) *pb.OperationRecord {
	if len(op.Domains) > 0 {
		op = proto.CloneOf(op)
		op.Domains = nil
	}
	return &pb.OperationRecord{Operation: op, At: t.event.Time}
}

// carryOut does what was ordered while an attempt was under way, once that has
// ended and left the recipient open. A return still waits, for its report.
func (t *tx) carryOut(m *message, r *recipient) {
	waiting := r.rec.Ordered
	if waiting == nil || r.rec.Claim != nil || !isOpen(r.rec.State) {
		return
	}
	op := waiting.Operation
	r.rec.Ordered = nil
	kind, text := historyKind(op.GetKind()), t.operationText(op)
	if id, ok := t.takenBack(op, m, r.rec); ok {
		kind, text = pb.HistoryRecord_KIND_ORDERED, fmt.Sprintf("%s was not carried out: operation %s takes it back", OperationWord(op.GetKind()), id)
	} else if _, why := t.operate(op, m, r); why != "" {
		kind, text = pb.HistoryRecord_KIND_ORDERED, OperationWord(op.GetKind())+" was not carried out: it "+why
	}
	t.addOperation(m, op, kind, []uint32{r.number}, text)
}

// takenBack is the operation by filter under way that takes a waiting one back and means
// the recipient: carried out before it gets there, it might be where that has been
// already. One with a limit may never get there.
func (t *tx) takenBack(op *pb.Operation, m *message, rec *pb.RecipientRecord) (by relay.MessageID, ok bool) {
	for _, key := range t.keysOf([]byte{byte(famBulks)}, maxBulks+keptBulks+1) {
		bulk := &pb.BulkRecord{}
		if t.load(key, bulk) == nil || bulk.FinishedAt != 0 || bulk.Limit != 0 {
			continue
		}
		f := bulkFilter(bulk)
		if f.Waiting == op.GetKind() && f.meansRecipient(rec) && f.matchesMessage(m.rec) {
			return relay.MessageID(key[1:]), true
		}
	}
	return by, false
}

// undelete makes a deleted recipient what it was.
func (t *tx) undelete(rec *pb.RecipientRecord) string {
	if rec.UndoState != pb.RecipientState_RECIPIENT_STATE_FROZEN && !t.routed(rec) {
		return "can't come back: its domain or its destination is no longer configured"
	}
	rec.State, rec.UndoState, rec.UndoUntil, rec.EndedAt = rec.UndoState, 0, 0, 0
	t.resume(rec)
	return ""
}

// routed: what waits has a configured domain, and a destination that exists.
func (t *tx) routed(rec *pb.RecipientRecord) bool {
	_, domain := lookup(t.tables.domains, rec.Domain)
	_, destination := lookup(t.tables.destinations, rec.Destination)
	return domain && destination
}

// redirect sends a recipient another way. It stays held or frozen if it was.
func (t *tx) redirect(op *pb.Operation, m *message, rec *pb.RecipientRecord) string {
	if op.Destination != "" {
		if _, ok := lookup(t.tables.destinations, op.Destination); !ok {
			return "can't be redirected: the destination is no longer configured"
		}
		if _, ok := lookup(t.tables.domains, rec.Domain); !ok {
			return "can't be redirected: its domain isn't configured here; give it another address"
		}
		rec.Destination, rec.Elsewhere = op.Destination, false
		t.resume(rec)
		return ""
	}
	now := newAddress(op)
	destination, ok := t.route(domainOf(now))
	if !ok {
		return "can't be redirected: the new address has no destination any more"
	}
	if len(rec.Earlier) == maxRedirections {
		return fmt.Sprintf("was redirected %d times already", maxRedirections)
	}
	old := rec.Recipient
	rec.Earlier = append(rec.Earlier, old)
	now.Notify, now.Orcpt, now.Spam = old.GetNotify(), old.GetOrcpt(), old.GetSpam()
	if now.Orcpt == "" {
		// RFC 3461 section 5.2.7: reports are about the address that the sender gave.
		now.Orcpt = addressType(old.GetAddress()) + ";" + old.GetAddress()
	}
	rec.Recipient, rec.Domain, rec.Destination, rec.Elsewhere = now, domainOf(now), destination, false
	t.setIndexes(m, rec)
	t.resume(rec)
	return ""
}

// addressType is that of an address in ORCPT (RFC 3461 section 4.2, RFC 6533 section 3).
func addressType(address string) string {
	for i := range len(address) {
		if address[i] >= utf8.RuneSelf {
			return "utf-8"
		}
	}
	return "rfc822"
}

// newAddress is where a redirection goes.
func newAddress(op *pb.Operation) *pb.Recipient {
	return &pb.Recipient{Address: op.Address, Domain: op.Domain}
}

// resume makes a pending recipient due now, whatever else was ordered before.
func (t *tx) resume(rec *pb.RecipientRecord) {
	if rec.State == pb.RecipientState_RECIPIENT_STATE_PENDING {
		rec.NextAttempt, rec.Ordered = t.event.Time, nil
	}
}

func (t *tx) setIndexes(m *message, rec *pb.RecipientRecord) {
	for _, key := range recipientIndexes(m.id, rec) {
		t.setIndex(key, nil)
	}
}

// recipientIndexes are the rows by which a recipient is found: under its
// address and under those that it had.
func recipientIndexes(id relay.MessageID, rec *pb.RecipientRecord) (keys [][]byte) {
	add := func(address, domain string) {
		keys = append(keys, keyOfIndex(indexTo, address, id), keyOfIndex(indexDomain, domain, id))
		if own := relay.DomainOf(address); own != domain {
			keys = append(keys, keyOfIndex(indexTo, anyoneAt+own, id))
		}
	}
	add(rec.Recipient.GetAddress(), rec.Domain)
	for _, earlier := range rec.Earlier {
		add(earlier.Address, domainOf(earlier))
	}
	return keys
}

// thaw makes a frozen recipient pending, with its retention from the beginning.
func (t *tx) thaw(m *message, rec *pb.RecipientRecord) string {
	if !t.routed(rec) {
		domain, destination, ok := t.routeOfReport(rec.Recipient)
		if !ok {
			return fmt.Sprintf("can't be thawed: no destination is configured for domain %s; configure it, or redirect it to another address", rec.Domain)
		}
		rec.Destination = destination
		t.rehome(m, rec, domain)
	}
	rec.State, rec.NextAttempt = pb.RecipientState_RECIPIENT_STATE_PENDING, t.event.Time
	rec.FrozenAt, rec.RetentionFrom, rec.Attempts, rec.Elsewhere = 0, t.event.Time, 0, false
	return ""
}

// rehome puts a recipient under the relay domain that its address goes by now.
func (t *tx) rehome(m *message, rec *pb.RecipientRecord, domain string) {
	if domain == rec.Domain {
		return
	}
	for _, key := range recipientIndexes(m.id, rec) {
		t.removeIndex(key)
	}
	rec.Recipient = proto.CloneOf(rec.Recipient)
	rec.Domain, rec.Recipient.Domain = domain, relay.OtherDomain(rec.Recipient.Address, domain)
	t.setIndexes(m, rec)
}

func historyKind(kind pb.Operation_Kind) pb.HistoryRecord_Kind {
	switch kind {
	case pb.Operation_KIND_RETRY:
		return pb.HistoryRecord_KIND_RETRY_REQUESTED
	case pb.Operation_KIND_HOLD:
		return pb.HistoryRecord_KIND_HELD
	case pb.Operation_KIND_RELEASE:
		return pb.HistoryRecord_KIND_RELEASED
	case pb.Operation_KIND_BOUNCE:
		return pb.HistoryRecord_KIND_RETURN_ORDERED
	case pb.Operation_KIND_DELETE:
		return pb.HistoryRecord_KIND_DELETED
	case pb.Operation_KIND_UNDELETE:
		return pb.HistoryRecord_KIND_UNDELETED
	case pb.Operation_KIND_REDIRECT:
		return pb.HistoryRecord_KIND_REDIRECTED
	}
	return pb.HistoryRecord_KIND_THAWED
}

// operationText is what a history row adds to its kind.
func (t *tx) operationText(op *pb.Operation) string {
	until := t.undoUntil(op)
	switch {
	case op.GetDestination() != "":
		return "to destination " + op.Destination
	case op.GetAddress() != "":
		return "to " + op.Address
	case until > 0:
		return "can be undone until " + time.Unix(0, until).UTC().Format(time.RFC3339)
	}
	return ""
}
