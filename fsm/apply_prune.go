package fsm

import (
	"encoding/binary"
	"slices"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// maxPruned bounds the records that one event removes.
const maxPruned = 1000

// endedKey is the row of a message that has ended, nil for one that hasn't: by
// it the log is pruned, the longest ended first.
func endedKey(m *message) []byte {
	if m.rec.EndedAt == 0 {
		return nil
	}
	key := binary.BigEndian.AppendUint64([]byte{byte(famEnded)}, uint64(m.rec.EndedAt))
	return append(key, m.id[:]...)
}

func endedBefore(before int64) (lower, upper []byte) {
	lower = []byte{byte(famEnded)}
	return lower, binary.BigEndian.AppendUint64(slices.Clone(lower), uint64(before))
}

// historyPruned removes what ended before a time. A message is in the family of
// those that ended only when no recipient is open, so what is pending, held,
// frozen or may yet be undeleted is never touched.
func (t *tx) historyPruned(e *pb.HistoryPruned) *pb.EventResult {
	age := t.event.Time - e.Before
	if e.Before <= 0 || e.Before > t.event.Time || age < int64(SettingsOf(t.tables.settings).LogRetention) {
		return invalid("the log's retention isn't over for what ended at %d", e.Before)
	}
	left := maxPruned
	for _, id := range t.endedIDs(e.Before) {
		if left <= 0 {
			break
		}
		m := t.message(id)
		if m == nil || m.rec.Open > 0 {
			continue
		}
		left -= t.pruneHistory(m, left)
		cost := 1 + int(m.rec.Recipients)
		if left <= 0 || cost > left && left < maxPruned {
			break
		}
		t.pruneMessage(m)
		left -= cost
	}
	if left == maxPruned {
		return stale("nothing ended before %d", e.Before)
	}
	t.forget(e.Before)
	t.sweepTablePast(min(left, maxSwept))
	return resultOK
}

func (t *tx) endedIDs(before int64) []relay.MessageID {
	var ids []relay.MessageID
	lower, upper := endedBefore(before)
	t.failedIf(scanFrom(t.batch, lower, upper, func(key, _ []byte) error {
		ids = append(ids, relay.MessageID(key[9:]))
		if len(ids) == maxPruned {
			return errStop
		}
		return nil
	}))
	return ids
}

// pruneHistory removes up to limit rows of what happened to a message and of what
// it was before, the oldest first. A long history goes in pieces, and its message
// after it.
func (t *tx) pruneHistory(m *message, limit int) int {
	keys := t.keysOf(keyOfID(famHistory, m.id), limit)
	keys = append(keys, t.keysOf(pastPrefix(keyOfID(famRecipients, m.id)), limit-len(keys))...)
	for _, key := range keys {
		t.remove(key, t.get(key))
	}
	return len(keys)
}

// pruneMessage removes an ended message and its recipients. The counters go on
// counting them: they are since the beginning.
func (t *tx) pruneMessage(m *message) {
	for number := range m.rec.Recipients {
		r := t.recipient(m, number)
		if r == nil {
			continue
		}
		for _, c := range []*pb.CounterRecord{t.counter('d', countedDomain(r.rec)), t.counter('D', r.rec.Destination)} {
			if r.rec.State == pb.RecipientState_RECIPIENT_STATE_DELIVERED {
				c.PrunedDelivered++
			} else {
				c.PrunedEnded++
			}
		}
		t.removeRecipient(m, r)
	}
	t.remove(endedKey(m), []byte{})
	t.removeRecord(m)
}

// removeRecipient removes a recipient's record with its search rows.
func (t *tx) removeRecipient(m *message, r *recipient) {
	for _, key := range recipientIndexes(m.id, r.rec) {
		t.removeIndex(key)
	}
	t.remove(keyOfPart(famRecipients, m.id, r.number), r.raw)
}

// removeRecord removes a message's own record with its search rows.
func (t *tx) removeRecord(m *message) {
	for _, state := range rareStates {
		t.removeIndex(keyOfState(state, m.id))
	}
	if m.rec.HeaderMessageId != "" {
		t.removeIndex(keyOfHeader(m.rec.HeaderMessageId, m.id))
	}
	t.removeIndex(keyOfIndex(indexFrom, m.rec.Envelope.GetFrom(), m.id))
	t.remove(keyOfID(famMessages, m.id), m.raw)
}

// HasEndedBefore reports whether the log has a message that ended before a time.
func (s *State) HasEndedBefore(before time.Time) (found bool, err error) {
	gen, err := s.acquire()
	if err != nil {
		return false, err
	}
	defer gen.release()
	lower, upper := endedBefore(before.UnixNano())
	err = scanFrom(gen.db, lower, upper, func(_, _ []byte) error {
		found = true
		return errStop
	})
	return found, err
}
