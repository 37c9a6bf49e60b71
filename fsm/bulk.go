package fsm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Bulk is a bulk operation with its id.
type Bulk struct {
	ID     relay.MessageID
	Record *pb.BulkRecord
}

// Bulks lists the bulk operations under way and the latest that have ended,
// oldest first.
func (v *View) Bulks() ([]Bulk, error) {
	var found []Bulk
	err := scan(v.snap, []byte{byte(famBulks)}, func(key, value []byte) error {
		b := Bulk{ID: relay.MessageID(key[1:]), Record: &pb.BulkRecord{}}
		found = append(found, b)
		return proto.Unmarshal(value, b.Record)
	})
	return found, err
}

// Bulk reads a bulk operation, or ErrNotFound.
func (v *View) Bulk(id relay.MessageID) (*pb.BulkRecord, error) {
	record := &pb.BulkRecord{}
	return record, readRow(v.snap, keyOfID(famBulks, id), record)
}

// NewBulkFilter is a filter as a bulk operation keeps it.
func NewBulkFilter(f Filter) *pb.BulkFilter {
	out := &pb.BulkFilter{Domain: f.Domain, Destination: f.Destination, From: f.From, To: f.To}
	for _, state := range f.States {
		out.States = append(out.States, uint32(state))
	}
	out.Since, out.Until = limitTime(f.Since), limitTime(f.Until)
	return out
}

// limitTime is a limit of a filter in nanoseconds since 1970, 0 where there is none.
// The beginning of 1970 is a limit too, and the times that nanoseconds don't reach
// are as good as the first and the last that they do: no message is beyond.
func limitTime(t time.Time) int64 {
	first, last := time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)
	switch {
	case t.IsZero():
		return 0
	case t.Before(first):
		return math.MinInt64
	case t.After(last):
		return math.MaxInt64
	case t.UnixNano() == 0:
		return 1
	}
	return t.UnixNano()
}

// bulkFilter is the filter of a bulk operation, at the index where it began.
func bulkFilter(bulk *pb.BulkRecord) Filter {
	b := bulk.Filter
	f := Filter{
		Domain: b.GetDomain(), Destination: b.GetDestination(), From: b.GetFrom(), To: b.GetTo(), Index: bulk.Index,
		Domains: bulk.Operation.GetDomains(), Waiting: takesBack[bulk.Operation.GetKind()],
	}
	for _, state := range b.GetStates() {
		f.States = append(f.States, pb.RecipientState(state))
	}
	if b.GetSince() != 0 {
		f.Since = time.Unix(0, b.Since)
	}
	if b.GetUntil() != 0 {
		f.Until = time.Unix(0, b.Until)
	}
	return f
}

// BulkPiece is the next piece of a bulk operation, of up to limit recipients. It
// may be empty where much was read in vain.
func (v *View) BulkPiece(b Bulk, limit int) (*pb.BulkProgressed, error) {
	return v.cut(b, limit, false)
}

// PreviewBulk are the pieces that an operation would have if nothing changed
// meanwhile, without what it would leave out. Each moves the operation on as if it had been applied.
func (v *View) PreviewBulk(operation *pb.BulkRecord, limit int) iter.Seq2[*pb.BulkProgressed, error] {
	return func(yield func(*pb.BulkProgressed, error) bool) {
		for {
			piece, err := v.cut(Bulk{Record: operation}, limit, true)
			if err == nil {
				err = v.preview(operation, piece)
			}
			if !yield(piece, err) || err != nil || piece.Finished {
				return
			}
		}
	}
}

// preview leaves in a piece what applying it would change.
func (v *View) preview(operation *pb.BulkRecord, piece *pb.BulkProgressed) error {
	operation.Met += messagesBegun(piece)
	var hit []*pb.Target
	for _, target := range piece.Targets {
		id := relay.MessageID(target.MessageId)
		m, err := v.Message(id)
		if err != nil {
			return err
		}
		var fit []uint32
		for _, number := range target.Recipients {
			r, err := v.Recipient(id, number)
			if err != nil {
				return err
			}
			if why := Refusal(operation.Operation, m, r); why != "" {
				operation.Refused++
				operation.Refusal = cmp.Or(operation.Refusal, fmt.Sprintf("%s of %s %s", r.Recipient.GetAddress(), id, why))
				continue
			}
			fit = append(fit, number)
		}
		if len(fit) == 0 {
			continue
		}
		if !bytes.Equal(operation.LastMessage, target.MessageId) {
			operation.Messages++
		}
		operation.LastMessage = target.MessageId
		operation.Changed += uint64(len(fit))
		hit = append(hit, &pb.Target{MessageId: target.MessageId, Recipients: fit})
	}
	piece.Targets = hit
	operation.Cursor, operation.CursorRecipient = piece.Cursor, piece.CursorRecipient
	return nil
}

func (v *View) cut(b Bulk, limit int, oneState bool) (*pb.BulkProgressed, error) {
	c := cutter{
		view: v, filter: bulkFilter(b.Record), bulk: b, oneState: oneState, room: limit, messages: b.Record.Met,
		met:   make(map[relay.MessageID]bool),
		piece: &pb.BulkProgressed{BulkId: b.ID[:], From: b.Record.Cursor, FromRecipient: b.Record.CursorRecipient, Noted: true},
	}
	from := b.Record.Cursor
	if b.Record.CursorRecipient > 0 && len(from) >= tailSize {
		// The last piece had only a part of a message. Its rows may have moved by that.
		_, begun, _ := tailOf(from)
		c.met[begun] = true
		switch where, err := c.take(begun, b.Record.CursorRecipient); {
		case err != nil:
			return nil, err
		case where == stopBefore:
			c.piece.Cursor = from
			return c.piece, nil
		case where == stopAfter:
			return c.piece, nil
		}
		from = append(slices.Clone(from), 0)
	}
	next, err := v.scanQueue(c.filter, from, c.meet)
	if errors.Is(err, ErrCursor) {
		// The log gave a cursor that no scan did; nothing can follow it.
		err, next = nil, nil
	}
	c.piece.Cursor = next
	c.piece.Finished = c.piece.Finished || next == nil
	return c.piece, err
}

// cutter fills a piece with the recipients of one message after the other.
type cutter struct {
	view     *View
	filter   Filter
	bulk     Bulk
	oneState bool                     // all pieces are of this view, and no message keeps that it was met
	met      map[relay.MessageID]bool // that have more than one recipient, in this piece
	last     relay.MessageID          // whose row came last
	record   *pb.MessageRecord        // its record
	wanted   bool                     // the filter means it, and it wasn't met
	room     int
	messages uint64
	piece    *pb.BulkProgressed
}

// meet comes to the row of a recipient. If the filter means that, its message is
// taken with all of its recipients that are meant, wherever their rows are: between
// two pieces any of them may lose its own.
func (c *cutter) meet(id relay.MessageID, number uint32) (visit, error) {
	if c.last != id {
		m, err := c.view.Message(id)
		if err != nil {
			return goOn, err
		}
		met := slices.ContainsFunc(m.Bulks, func(bulk []byte) bool { return bytes.Equal(bulk, c.bulk.ID[:]) })
		c.last, c.record, c.wanted = id, m, !met && c.filter.matchesMessage(m)
	}
	if !c.wanted || c.met[id] {
		return goOn, nil
	}
	r, err := c.view.Recipient(id, number)
	if err != nil || !c.filter.MatchesQueued(r) {
		return goOn, err
	}
	if c.oneState && c.record.Recipients > 1 {
		if first, err := c.isFirst(id, number); err != nil || !first {
			c.met[id] = true // nor is any row behind this one
			return goOn, err
		}
	}
	return c.take(id, 0)
}

// isFirst reports whether no row before a recipient's brings its message: within one
// state that tells from the rows alone what was met, however long the queue is.
func (c *cutter) isFirst(id relay.MessageID, number uint32) (bool, error) {
	recipients, err := c.view.Recipients(id)
	if err != nil {
		return false, err
	}
	m := &message{id: id, rec: c.record}
	rowOf := func(number uint32) []byte {
		if key := openKey(m, number, recipients[number]); key != nil || !c.filter.isForDeleted() {
			return key
		}
		return leavingKey(m, number, recipients[number])
	}
	row := rowOf(number)
	for other, r := range recipients {
		key := rowOf(uint32(other))
		if key != nil && bytes.Compare(key, row) < 0 && c.filter.MatchesQueued(r) {
			return false, nil
		}
	}
	return true, nil
}

// take takes the recipients of a message from one of them on.
func (c *cutter) take(id relay.MessageID, first uint32) (visit, error) {
	recipients, err := c.view.Recipients(id)
	if err != nil {
		return goOn, err
	}
	taken := false
	for number := first; int(number) < len(recipients); number++ {
		if !c.filter.MatchesQueued(recipients[number]) {
			continue
		}
		if c.room == 0 {
			if taken {
				c.piece.CursorRecipient = number
			}
			return stopBefore, nil
		}
		c.room--
		c.piece.Targets = AddTarget(c.piece.Targets, id, number)
		taken = true
	}
	if len(recipients) > 1 {
		c.met[id] = true
	}
	if taken && first == 0 {
		c.messages++
	}
	if c.bulk.Record.Limit != 0 && c.messages >= c.bulk.Record.Limit {
		c.piece.Finished = true
		return stopAfter, nil
	}
	return goOn, nil
}
