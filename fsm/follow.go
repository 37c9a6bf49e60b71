package fsm

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// What a row of the feed refers to: a message's acceptance, or a row of its
// history. A feed row is one for each entry, and has for each row of history one
// of these bytes and the message's id; their order is the rows' number.
const (
	feedAccepted byte = 'a'
	feedHistory  byte = 'h'

	feedItem = 1 + len(relay.MessageID{})
)

// nextRow numbers the rows of history of the current entry, and puts the row on
// the feed.
func (t *tx) nextRow(id relay.MessageID, kind byte) uint32 {
	row := t.historyRows
	t.historyRows++
	t.feedRow = append(append(t.feedRow, kind), id[:]...)
	return row
}

// saveFeed writes what the entry has added to the history of messages.
func (t *tx) saveFeed() {
	if len(t.feedRow) > 0 {
		t.setIndex(keyOfNumber(indexFeed, t.index), t.feedRow)
		t.feedRow = nil
	}
}

// FollowedRow is a row of history with the message it belongs to.
type FollowedRow struct {
	HistoryRow
	ID      relay.MessageID
	Message *pb.MessageRecord
}

// Follow reads the history of all messages in the order of the log, from a
// position on, at most limit rows; ErrForgotten where that is older than the
// retention. Rows of messages that exist no more are passed by. next is where to
// go on; behind the view's index when all is read.
func (v *View) Follow(from Position, limit int) (rows []FollowedRow, next Position, err error) {
	if from.Index < v.applied.Forgotten {
		return nil, from, ErrForgotten
	}
	prefix := []byte{byte(famIndex), indexFeed}
	next = Position{Index: v.applied.Index + 1}
	if next.before(from) {
		next = from
	}
	seen := 0
	err = scanFrom(v.snap, keyOfNumber(indexFeed, from.Index), after(prefix), func(key, value []byte) error {
		at := Position{Index: binary.BigEndian.Uint64(key[2:])}
		for ; len(value) >= feedItem; value, at = value[feedItem:], at.Behind() {
			if at.before(from) {
				continue
			}
			if seen == limit {
				next = at
				return errStop
			}
			seen++
			row, err := v.followed(at, value[0], relay.MessageID(value[1:feedItem]))
			if errors.Is(err, ErrNotFound) {
				continue // taken back by its client, or pruned
			}
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, next, err
}

func (v *View) followed(at Position, kind byte, id relay.MessageID) (FollowedRow, error) {
	m, err := v.Message(id)
	if err != nil {
		return FollowedRow{}, err
	}
	if kind == feedAccepted {
		row := acceptedRow(m)
		if row.Position != at {
			return FollowedRow{}, ErrNotFound // another one came under its id
		}
		return FollowedRow{HistoryRow: row, ID: id, Message: m}, nil
	}
	key := keyOfHistory(id, at.Index, at.Row)
	var row HistoryRow
	var damaged error
	err = readValue(v.snap, key, func(value []byte) { row, damaged = historyRow(key, value) })
	if errors.Is(err, pebble.ErrNotFound) {
		return FollowedRow{}, ErrNotFound
	}
	return FollowedRow{HistoryRow: row, ID: id, Message: m}, errors.Join(err, damaged)
}

// Forgotten is the index before which the past can't be shown any more.
func (v *View) Forgotten() uint64 { return v.applied.Forgotten }

// Concerns reports whether a filter means a row: its message, and at least one
// of its recipients as it was after the row's entry.
func (v *View) Concerns(f Filter, row FollowedRow) (bool, error) {
	if !f.matchesMessage(row.Message) {
		return false, nil
	}
	if !f.aboutRecipients() {
		return true, nil
	}
	for _, number := range row.Record.Recipients {
		r, err := v.recipientAt(row.ID, number, row.Index)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return false, err
		}
		if err == nil && f.MatchesRecipient(r) {
			return true, nil
		}
	}
	return false, nil
}
