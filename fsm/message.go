package fsm

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// message is a message's record while an event changes it.
type message struct {
	id    relay.MessageID
	rec   *pb.MessageRecord
	raw   []byte
	ended bool // its body is gone
}

// recipient is a recipient's record while an event changes it.
type recipient struct {
	number uint32
	rec    *pb.RecipientRecord
	raw    []byte
	before *pb.RecipientRecord
}

func (t *tx) message(id relay.MessageID) *message {
	m := &message{id: id, rec: &pb.MessageRecord{}}
	if m.raw = t.load(keyOfID(famMessages, id), m.rec); m.raw == nil {
		return nil
	}
	m.ended = m.rec.Open == 0
	return m
}

// messageOf finds the message that an event names.
func (t *tx) messageOf(id []byte) *message {
	parsed, err := relay.MessageIDFromBytes(id)
	if err != nil {
		return nil
	}
	return t.message(parsed)
}

func (t *tx) recipient(m *message, number uint32) *recipient {
	r := &recipient{number: number, rec: &pb.RecipientRecord{}}
	if r.raw = t.load(keyOfPart(famRecipients, m.id, number), r.rec); r.raw == nil {
		return nil
	}
	r.before = proto.Clone(r.rec).(*pb.RecipientRecord)
	return r
}

// isOpen: the cluster still owes this recipient an end, or an operator does.
func isOpen(state pb.RecipientState) bool {
	switch state {
	case pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD,
		pb.RecipientState_RECIPIENT_STATE_FROZEN:
		return true
	}
	return false
}

// keepsBody: the recipient's body may yet be needed.
func keepsBody(rec *pb.RecipientRecord) bool {
	return isOpen(rec.GetState()) || isUndoable(rec)
}

// isUndoable: the recipient is deleted, and can come back.
func isUndoable(rec *pb.RecipientRecord) bool { return rec.GetUndoUntil() != 0 }

// RetentionFrom is when the retention of a recipient began: at the acceptance,
// or when an operator thawed it.
func RetentionFrom(m *pb.MessageRecord, r *pb.RecipientRecord) time.Time {
	if r.RetentionFrom != 0 {
		return time.Unix(0, r.RetentionFrom)
	}
	return time.Unix(0, m.AcceptedAt)
}

func classOf(m *pb.MessageRecord, rec *pb.RecipientRecord) Class {
	switch rec.State {
	case pb.RecipientState_RECIPIENT_STATE_HELD:
		return classHeld
	case pb.RecipientState_RECIPIENT_STATE_FROZEN:
		return classFrozen
	}
	return PendingClass(m, rec)
}

// PendingClass is the class of a recipient while it is pending.
func PendingClass(m *pb.MessageRecord, rec *pb.RecipientRecord) Class {
	switch {
	case len(m.GetReportOn()) > 0:
		return ClassReport
	case rec.GetRecipient().GetSpam():
		return ClassSpam
	case rec.GetWarned() || m.GetEnvelope().GetFrom() == "" || !wantsDelay(rec.GetRecipient().GetNotify()):
		return ClassQuiet
	}
	return ClassMail
}

// wantsDelay: RFC 3461 section 4.1 leaves it to the relay where NOTIFY is absent.
func wantsDelay(notify string) bool {
	return notify == "" || slices.Contains(strings.Split(notify, ","), "DELAY")
}

// saveRecipient writes a changed recipient, and whatever follows from its
// record: its place in the queue, its row among the open ones and among those
// that leave, the counters, and the message's number of open recipients.
func (t *tx) saveRecipient(m *message, r *recipient) {
	if !isOpen(r.rec.State) {
		r.rec.Ordered = nil // the end has come first
	}
	if r.before != nil && !sameToFilters(r.before, r.rec) {
		r.rec.ChangedIndex = t.index
	}
	t.keepRecipient(m, r)
	if r.before.GetState() != r.rec.State && slices.Contains(rareStates, r.rec.State) {
		t.setIndex(keyOfState(r.rec.State, m.id), nil)
	}
	value := encode(r.rec)
	t.put(keyOfPart(famRecipients, m.id, r.number), r.raw, value)
	t.moveRow(t.queueKey(m, r.number, r.before), t.queueKey(m, r.number, r.rec), r.rec.Destination)
	t.moveRow(openKey(m, r.number, r.before), openKey(m, r.number, r.rec), "")
	t.moveRow(leavingKey(m, r.number, r.before), leavingKey(m, r.number, r.rec), "")
	t.moveCounters(r.before, r.rec)
	t.moveShare(m, r.before, r.rec)
	if keepsBody(r.before) {
		m.rec.Open--
	}
	if keepsBody(r.rec) {
		m.rec.Open++
	}
	r.raw, r.before = value, proto.Clone(r.rec).(*pb.RecipientRecord)
}

// sameToFilters: no filter can tell the two apart.
func sameToFilters(a, b *pb.RecipientRecord) bool {
	return a.State == b.State && a.Destination == b.Destination && a.UndoUntil == b.UndoUntil &&
		a.Recipient.GetAddress() == b.Recipient.GetAddress() && waitsFor(a) == waitsFor(b)
}

// waitsFor is the operation that is carried out when the attempt under way ends, 0 for none.
func waitsFor(r *pb.RecipientRecord) pb.Operation_Kind {
	if r.Claim == nil {
		return 0
	}
	return r.Ordered.GetOperation().GetKind()
}

// queueKey is a recipient's place in the queue, nil while it has none: only
// pending recipients that nobody has claimed wait there, and none that is to be
// returned.
func (t *tx) queueKey(m *message, number uint32, rec *pb.RecipientRecord) []byte {
	if rec.GetState() != pb.RecipientState_RECIPIENT_STATE_PENDING || rec.Claim != nil || rec.Ordered != nil {
		return nil
	}
	return keyOfQueue(rec.Destination, laneOf(m.rec, rec), rec.NextAttempt, m.id, number)
}

func openKey(m *message, number uint32, rec *pb.RecipientRecord) []byte {
	if !isOpen(rec.GetState()) {
		return nil
	}
	return keyOfOpen(rec.Domain, classOf(m.rec, rec), RetentionFrom(m.rec, rec).UnixNano(), m.id, number)
}

// moveRow moves a row without a value; a new queue row is told to the scheduler.
func (t *tx) moveRow(from, to []byte, destination string) {
	if slices.Equal(from, to) {
		return
	}
	if from != nil {
		t.remove(from, []byte{})
	}
	if to != nil {
		t.put(to, nil, []byte{})
		if destination != "" {
			t.staged.changes.lower(destination, to)
		}
	}
}

func (t *tx) moveCounters(before, now *pb.RecipientRecord) {
	if before.GetState() == now.State && (before.GetInDoubt() > 0) == (now.InDoubt > 0) && isUndoable(before) == isUndoable(now) &&
		before.GetDestination() == now.Destination && countedDomain(before) == countedDomain(now) {
		return
	}
	if before != nil {
		t.addTo(t.counter('d', countedDomain(before)), before, ^uint64(0))
		t.addTo(t.counter('D', before.Destination), before, ^uint64(0))
	}
	t.addTo(t.counter('d', countedDomain(now)), now, 1)
	t.addTo(t.counter('D', now.Destination), now, 1)
}

// countedDomain is the domain whose counter has a recipient. Domains that aren't
// configured share one, since anybody can make up more of them.
func countedDomain(rec *pb.RecipientRecord) string {
	if rec.GetElsewhere() {
		return ""
	}
	return rec.GetDomain()
}

// addTo adds n, which may be -1, to what a recipient counts as.
func (t *tx) addTo(c *pb.CounterRecord, rec *pb.RecipientRecord, n uint64) {
	switch rec.State {
	case pb.RecipientState_RECIPIENT_STATE_PENDING:
		c.Pending += n
	case pb.RecipientState_RECIPIENT_STATE_HELD:
		c.Held += n
	case pb.RecipientState_RECIPIENT_STATE_FROZEN:
		c.Frozen += n
	case pb.RecipientState_RECIPIENT_STATE_DELIVERED:
		c.Delivered += n
	default:
		c.Ended += n
	}
	if isOpen(rec.State) && rec.InDoubt > 0 {
		c.InDoubt += n
	}
	if isUndoable(rec) {
		c.Undoable += n
	}
}

// saveMessage writes a changed message. When its last recipient has ended the
// body goes; the rest is history.
func (t *tx) saveMessage(m *message) {
	if m.rec.Open == 0 && !m.ended {
		m.rec.EndedAt, m.rec.EndedIndex, m.ended = max(1, t.event.Time), t.index, true
		t.put(endedKey(m), nil, []byte{})
		t.removeBody(m)
	}
	value := encode(m.rec)
	t.put(keyOfID(famMessages, m.id), m.raw, value)
	m.raw = value
}

func (t *tx) removeBody(m *message) {
	content := m.rec.Content
	if content.GetPieces() == 0 {
		t.removeContent(keyOfPart(famContent, m.id, 0), uint32(content.GetSize()), content.GetCrc32C())
		return
	}
	for piece := range content.Pieces {
		t.removePiece(m.id, piece)
	}
}

func (t *tx) removePiece(id relay.MessageID, piece uint32) {
	var record pb.PieceRecord
	key := keyOfPart(famPieces, id, piece)
	raw := t.load(key, &record)
	if raw == nil {
		return
	}
	t.remove(key, raw)
	t.removeContent(keyOfPart(famContent, id, piece), record.Size, record.Crc32C)
}

// addHistory appends a row to a message's log.
func (t *tx) addHistory(m *message, row *pb.HistoryRecord) {
	row.Index, row.Time = t.index, t.event.Time
	if row.Node == "" {
		row.Node = t.node
	}
	t.put(keyOfHistory(m.id, t.index, t.nextRow(m.id, feedHistory)), nil, encode(row))
}
