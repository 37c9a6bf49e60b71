package fsm

import (
	"encoding/binary"
	"errors"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// What a recipient leaves by without an attempt.
const (
	leavingDeleted   byte = 'd' // at the end of its undo time
	leavingFrozen    byte = 'z' // an age after it was frozen
	leavingReturning byte = 'b' // with a report, as soon as the destination's owner writes it
)

// leavingKey is a recipient's row among those that leave, nil while it has none.
func leavingKey(m *message, number uint32, rec *pb.RecipientRecord) []byte {
	var prefix []byte
	var at int64
	switch {
	case rec.GetUndoUntil() != 0:
		prefix, at = leavingPrefix(leavingDeleted), rec.UndoUntil
	case rec.GetState() == pb.RecipientState_RECIPIENT_STATE_FROZEN:
		prefix, at = leavingPrefix(leavingFrozen), rec.FrozenAt
	case isReturning(rec):
		prefix, at = returningPrefix(rec.Destination), rec.Ordered.At
	default:
		return nil
	}
	key := binary.BigEndian.AppendUint64(prefix, uint64(at))
	key = append(key, m.id[:]...)
	return binary.BigEndian.AppendUint32(key, number)
}

func leavingPrefix(kind byte) []byte { return []byte{byte(famLeaving), kind} }

func returningPrefix(destination string) []byte {
	return appendName(leavingPrefix(leavingReturning), destination)
}

// isReturning: an operator has ordered its return, and no attempt is under way.
func isReturning(rec *pb.RecipientRecord) bool {
	return rec.GetState() == pb.RecipientState_RECIPIENT_STATE_PENDING && rec.Claim == nil &&
		rec.Ordered.GetOperation().GetKind() == pb.Operation_KIND_BOUNCE
}

// purged lets deleted recipients go whose undo time is over.
func (t *tx) purged(e *pb.Purged) *pb.EventResult {
	return t.letGo(e.Targets, pb.HistoryRecord_KIND_PURGED, func(rec *pb.RecipientRecord) bool {
		if rec.UndoUntil == 0 || rec.UndoUntil > t.event.Time {
			return false
		}
		rec.UndoUntil, rec.UndoState = 0, 0
		return true
	})
}

// frozenExpired drops reports that nobody has looked after for too long.
func (t *tx) frozenExpired(e *pb.FrozenExpired) *pb.EventResult {
	if t.event.Time-e.Before < int64(SettingsOf(t.tables.settings).FrozenAge) {
		return invalid("the age of frozen reports isn't over for what was frozen at %d", e.Before)
	}
	return t.letGo(e.Targets, pb.HistoryRecord_KIND_FROZEN_EXPIRED, func(rec *pb.RecipientRecord) bool {
		if rec.State != pb.RecipientState_RECIPIENT_STATE_FROZEN || rec.FrozenAt > e.Before {
			return false
		}
		rec.State, rec.EndedAt = pb.RecipientState_RECIPIENT_STATE_DROPPED, t.event.Time
		return true
	})
}

// letGo ends what end says it ends.
func (t *tx) letGo(targets []*pb.Target, kind pb.HistoryRecord_Kind, end func(*pb.RecipientRecord) bool) *pb.EventResult {
	if n := countTargets(targets); n > maxOperated {
		return invalid("%d recipients, at most %d", n, maxOperated)
	}
	ended := 0
	for _, target := range targets {
		m := t.messageOf(target.MessageId)
		if m == nil {
			continue
		}
		var numbers []uint32
		for _, number := range target.Recipients {
			r := t.recipient(m, number)
			if r == nil || !end(r.rec) {
				continue
			}
			t.saveRecipient(m, r)
			numbers = append(numbers, number)
		}
		if len(numbers) == 0 {
			continue
		}
		ended += len(numbers)
		t.addHistory(m, &pb.HistoryRecord{Kind: kind, Recipients: numbers})
		t.saveMessage(m)
	}
	if ended == 0 {
		return stale("none of the recipients is to go")
	}
	return resultOK
}

// UndoOver lists deleted recipients whose undo time ended before a time, up to
// limit of them.
func (s *State) UndoOver(before time.Time, limit int) ([]*pb.Target, error) {
	return s.leaving(leavingPrefix(leavingDeleted), before, limit, leavingPieces)
}

// FrozenBefore lists recipients that were frozen before a time, longest first,
// up to limit of them.
func (s *State) FrozenBefore(before time.Time, limit int) ([]*pb.Target, error) {
	return s.leaving(leavingPrefix(leavingFrozen), before, limit, leavingPieces)
}

// Returning lists recipients of a destination that are to be returned by an
// operator's order, up to limit of them.
func (s *State) Returning(destination string, limit int) ([]*pb.Target, error) {
	return s.leaving(returningPrefix(destination), time.Time{}, limit, 0) // each goes by itself
}

// AnyReturning reports whether there are some at any destination.
func (s *State) AnyReturning() (bool, error) {
	found, err := s.leaving(leavingPrefix(leavingReturning), time.Time{}, 1, 0)
	return len(found) > 0, err
}

// leavingPieces bounds the pieces of the bodies that go with one event: each is a row
// that Apply reads and deletes, and no acceptance gets its 250 meanwhile.
const leavingPieces = 1000

// leaving lists up to limit recipients, or fewer where their bodies have so many pieces;
// 0 is no bound.
func (s *State) leaving(prefix []byte, before time.Time, limit int, most uint32) ([]*pb.Target, error) {
	gen, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer gen.release()
	var found []*pb.Target
	n, pieces := 0, uint32(0)
	err = scan(gen.db, prefix, func(key, _ []byte) error {
		at, id, number := tailOf(key)
		if n == limit || most > 0 && pieces >= most || !before.IsZero() && at >= before.UnixNano() {
			return errStop
		}
		n++
		messages := len(found)
		if found = AddTarget(found, id, number); most == 0 || len(found) == messages {
			return nil
		}
		message := &pb.MessageRecord{}
		if err := readRow(gen.db, keyOfID(famMessages, id), message); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		pieces += message.GetContent().GetPieces()
		return nil
	})
	return found, err
}

// AddTarget adds a recipient to targets: to the last target if that is of the same message.
func AddTarget(targets []*pb.Target, id relay.MessageID, number uint32) []*pb.Target {
	if last := len(targets) - 1; last >= 0 && relay.MessageID(targets[last].MessageId) == id {
		targets[last].Recipients = append(targets[last].Recipients, number)
		return targets
	}
	return append(targets, &pb.Target{MessageId: id[:], Recipients: []uint32{number}})
}
