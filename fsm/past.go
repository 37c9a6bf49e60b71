package fsm

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// The past is kept as rows as they were before they changed, under their own key
// and the raft index of the change: a row at an index is the first that was kept
// after it, or the present one.

// inTables are the families of which every change is kept, so that causes,
// owners and expiry of a past queue are those of that time. Counters change with
// every message and are counted anew instead.
func inTables(f family) bool {
	return f == famDomains || f == famDestinations || f == famPolicies || f == famNodes || f == famSettings
}

func pastPrefix(key []byte) []byte {
	return append([]byte{byte(famPast)}, key...)
}

func keyOfPast(key []byte, index uint64) []byte {
	return binary.BigEndian.AppendUint64(pastPrefix(key), index)
}

// tablePast is the prefix of what is kept of a row whose key ends with a name.
func tablePast(key []byte) []byte { return append(pastPrefix(key), 0) }

// keepTableRow keeps a row as it was before this entry; an empty one says that
// there was none.
func (t *tx) keepTableRow(key, old []byte) {
	past := binary.BigEndian.AppendUint64(tablePast(key), t.index)
	if t.get(past) != nil {
		return // changed by this entry before
	}
	if old == nil {
		old = []byte{}
	}
	t.put(past, nil, old)
	t.forgetTableRows(key)
}

// maxForgotten bounds what one change of a row removes of its past.
const maxForgotten = 4

// forgetTableRows removes what the past of a row has from before the retention:
// a destination that goes down and up adds to it for ever. Each change removes
// more than it adds.
func (t *tx) forgetTableRows(key []byte) {
	for _, past := range t.keysOf(tablePast(key), maxForgotten) {
		if isBeforeRetention(past, t.applied.Forgotten) {
			t.remove(past, t.get(past))
		}
	}
}

// maxSwept is how many rows of the past of configuration one pruning looks at, if it
// has so much left of what it may remove.
const maxSwept = 100

// sweepTablePast removes what the past of configuration has from before the
// retention: what was removed changes no more, so that nothing else comes back to it.
// It goes on behind the row that it looked at last, and at the end begins anew.
func (t *tx) sweepTablePast(limit int) {
	if limit <= 0 {
		return
	}
	from := t.applied.Swept
	if len(from) == 0 {
		from = pastPrefix(nil)
	}
	var keys [][]byte
	// The past of recipients is behind that of all tables, and goes with its messages.
	t.failedIf(scanFrom(t.batch, from, pastPrefix([]byte{byte(famRecipients)}), func(key, _ []byte) error {
		if keys = append(keys, slices.Clone(key)); len(keys) == limit {
			return errStop
		}
		return nil
	}))
	t.applied.Swept = nil
	if len(keys) == limit {
		t.applied.Swept = append(slices.Clone(keys[limit-1]), 0)
	}
	for _, past := range keys {
		if isBeforeRetention(past, t.applied.Forgotten) {
			t.remove(past, t.get(past))
		}
	}
}

// isBeforeRetention: such a row is what held before its index, and at forgotten another
// one does, or the present one.
func isBeforeRetention(past []byte, forgotten uint64) bool {
	return binary.BigEndian.Uint64(past[len(past)-8:]) <= forgotten
}

// forget notes that what ended before a time is being pruned: nothing from before
// that can be shown whole any more, nor followed.
func (t *tx) forget(before int64) {
	rows := []byte{byte(famIndex), indexClock}
	upper := keyOfNumber(indexClock, uint64((before+int64(clocksApart))/nanosecondsPerSecond))
	index := t.applied.Forgotten
	t.failedIf(scanFrom(t.batch, upper, after(rows), func(_, value []byte) error {
		index = binary.BigEndian.Uint64(value)
		return errStop
	}))
	if index == t.applied.Forgotten {
		return
	}
	t.applied.Forgotten = index
	t.removeRange(rows, upper)
	t.removeRange([]byte{byte(famIndex), indexFeed}, keyOfNumber(indexFeed, index))
}

// keepRecipient keeps a recipient as it was before this entry. A claim is not
// kept by itself: its end is, and knows when it began.
func (t *tx) keepRecipient(m *message, r *recipient) {
	switch {
	case r.before == nil:
		r.rec.SinceIndex = t.index
	case r.before.Claim == nil && r.rec.Claim != nil:
		r.rec.ClaimedIndex = t.index
		return
	case r.before.SinceIndex != t.index:
		t.put(keyOfPast(keyOfPart(famRecipients, m.id, r.number), t.index), nil, r.raw)
		r.rec.SinceIndex = t.index
	}
	if r.rec.Claim == nil {
		r.rec.ClaimedIndex = 0
	}
}

// ErrFuture is returned for an index that this node hasn't applied yet.
var ErrFuture = errors.New("the index is later than what this node has applied")

// Rewind turns the view back to an index: what it then shows of messages, their
// recipients, domains, destinations and nodes is as it was there. Counters,
// tokens, accounts, and what is known of recipients before they get mail are empty.
func (v *View) Rewind(index uint64) error {
	if index > v.Index() {
		return ErrFuture
	}
	if index < v.applied.Forgotten {
		return ErrForgotten
	}
	tables, err := readTables(func(f family, each func(key, value []byte) error) error {
		if f == famCounters || f == famTokens || f == famAccounts {
			return nil
		}
		return scanTableAt(v.snap, f, index, each)
	})
	if err != nil {
		return err
	}
	v.past, v.index, v.tables = true, index, tables
	return nil
}

// scanTableAt reads the rows of a family as they were at an index.
func scanTableAt(db pebble.Reader, f family, index uint64, each func(key, value []byte) error) error {
	kept := make(map[string][]byte)
	var names [][]byte
	prefix := pastPrefix([]byte{byte(f)})
	iter, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer iter.Close()
	for valid := iter.First(); valid; {
		key := append([]byte(nil), iter.Key()[1:len(iter.Key())-9]...)
		row := tablePast(key)
		if iter.SeekGE(binary.BigEndian.AppendUint64(row, index+1)) && len(iter.Key()) == len(row)+8 &&
			string(iter.Key()[:len(row)]) == string(row) {
			value, err := iter.ValueAndErr()
			if err != nil {
				return err
			}
			kept[string(key)] = append([]byte{}, value...)
			names = append(names, key)
		}
		valid = iter.SeekGE(after(row))
	}
	if err := iter.Error(); err != nil {
		return err
	}
	err = scan(db, []byte{byte(f)}, func(key, value []byte) error {
		if _, changed := kept[string(key)]; changed {
			return nil
		}
		return each(key, value)
	})
	for _, key := range names {
		if value := kept[string(key)]; err == nil && len(value) > 0 {
			err = each(key, value)
		}
	}
	return err
}

// recipientAt reads a recipient as it was at an index, ErrNotFound where there
// was none.
func (v *View) recipientAt(id relay.MessageID, number uint32, index uint64) (*pb.RecipientRecord, error) {
	key := keyOfPart(famRecipients, id, number)
	record, found := &pb.RecipientRecord{}, false
	err := scanFrom(v.snap, keyOfPast(key, index+1), after(pastPrefix(key)), func(_, value []byte) error {
		found = true
		if err := proto.Unmarshal(value, record); err != nil {
			return err
		}
		return errStop
	})
	if err == nil && !found {
		err = readRow(v.snap, key, record)
	}
	if err != nil {
		return nil, err
	}
	if record.SinceIndex > index {
		return nil, ErrNotFound
	}
	if record.ClaimedIndex > index {
		record.Claim, record.ClaimedAt, record.Probe, record.ClaimedIndex = nil, 0, false, 0
	}
	return record, nil
}

// RecipientFor reads a recipient as a row of history left it, for somebody who is
// limited to domains, nil for all; ErrNotFound where it wasn't one of theirs. What
// an attempt came to that a redirection to them has waited for is in the same entry
// as that, and isn't theirs either.
func (v *View) RecipientFor(domains []string, id relay.MessageID, number uint32, row HistoryRow) (*pb.RecipientRecord, error) {
	r, err := v.recipientAt(id, number, row.Index)
	if err != nil || domains == nil {
		return r, err
	}
	if !slices.Contains(domains, r.Domain) {
		return nil, ErrNotFound
	}
	if row.Record.Kind == pb.HistoryRecord_KIND_REDIRECTED {
		return r, nil
	}
	before, err := v.recipientAt(id, number, row.Index-1)
	switch {
	case errors.Is(err, ErrNotFound):
		return r, nil // it came with this entry
	case err != nil:
		return nil, err
	case !slices.Contains(domains, before.Domain):
		return nil, ErrNotFound
	}
	return r, nil
}

func (v *View) recipientsAt(id relay.MessageID) ([]*pb.RecipientRecord, error) {
	m, err := v.Message(id)
	if err != nil {
		return nil, err
	}
	records := make([]*pb.RecipientRecord, m.Recipients)
	for number := range records {
		if records[number], err = v.recipientAt(id, uint32(number), v.index); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// clocksApart is more than the clocks of two proposers differ.
const clocksApart = time.Minute

// queueAt lists the messages that had open recipients at the index of a view
// that was rewound, oldest first.
func (v *View) queueAt(f Filter, cursor []byte, limit int) ([]relay.MessageID, []byte, error) {
	wanted := f
	f.OldestFirst, f.States = true, nil // the index of states has what they came to later
	return v.walk(f, cursor, limit, func(id relay.MessageID, m *pb.MessageRecord) (bool, error) {
		if m.EndedIndex != 0 && m.EndedIndex <= v.index {
			return false, nil
		}
		for number := range m.Recipients {
			r, err := v.Recipient(id, number)
			if err != nil {
				return false, err
			}
			if wanted.MatchesQueued(r) {
				return true, nil
			}
		}
		return false, nil
	})
}
