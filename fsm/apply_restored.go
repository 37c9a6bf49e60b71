package fsm

import (
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// restored lets another cluster go on with this state. What was pending when the
// backup was made may have been delivered since: it is in doubt, and held where
// that is asked for.
func (t *tx) restored(e *pb.Restored) *pb.EventResult {
	if n := countTargets(e.Targets); n > maxOperated {
		return invalid("a piece of %d recipients, at most %d", n, maxOperated)
	}
	if len(e.Text) > MaxReason || proto.Size(e.Hold) > maxOperationText {
		return invalid("a restore says why in %d bytes at most", MaxReason) // each recipient keeps it
	}
	changed := 0
	for _, target := range e.Targets {
		if m := t.messageOf(target.MessageId); m != nil {
			changed += t.doubtRestored(m, target.Recipients, e)
		}
	}
	if e.EndsBulks {
		t.endBulks(e.Text)
	}
	if e.ClusterId != "" {
		t.applied.ClusterId = e.ClusterId
		t.staged.nodesChanged = true
	}
	return &pb.EventResult{Code: pb.EventResult_CODE_OK, Changed: uint32(changed)}
}

// doubtRestored marks recipients of one message, and returns how many. A deleted
// one may come back yet, and may have done so already.
func (t *tx) doubtRestored(m *message, numbers []uint32, e *pb.Restored) int {
	var doubted, held []uint32
	for _, number := range numbers {
		r := t.recipient(m, number)
		if r == nil || r.rec.Claim != nil || !keepsBody(r.rec) {
			continue
		}
		r.rec.InDoubt++
		doubted = append(doubted, number)
		if e.Hold != nil && r.rec.State == pb.RecipientState_RECIPIENT_STATE_PENDING {
			r.rec.State, r.rec.NextAttempt = pb.RecipientState_RECIPIENT_STATE_HELD, 0
			r.rec.HeldBy, r.rec.Ordered = t.ordered(e.Hold), nil
			held = append(held, number)
		}
		t.saveRecipient(m, r)
	}
	if len(doubted) == 0 {
		return 0
	}
	t.addHistory(m, &pb.HistoryRecord{Kind: pb.HistoryRecord_KIND_IN_DOUBT, Recipients: doubted, Text: e.Text})
	t.addOperation(m, e.Hold, pb.HistoryRecord_KIND_HELD, held, "")
	t.saveMessage(m)
	return len(doubted)
}

// endBulks ends the bulk operations that are under way: after a restore nothing
// moves that nobody has ordered there.
func (t *tx) endBulks(why string) {
	for _, key := range t.keysOf([]byte{byte(famBulks)}, maxBulks+keptBulks+1) {
		old := &pb.BulkRecord{}
		raw := t.load(key, old)
		if raw == nil || old.FinishedAt != 0 {
			continue
		}
		record := proto.Clone(old).(*pb.BulkRecord)
		record.FinishedAt, record.Failure = max(1, t.event.Time), why
		t.put(key, raw, encode(record))
		t.staged.bulksChanged = true
	}
}
