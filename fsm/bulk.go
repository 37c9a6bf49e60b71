package fsm

import (
	"bytes"
	"errors"
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
		Domains: bulk.Operation.GetDomains(),
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
	c := cutter{
		filter: bulkFilter(b.Record), bulk: b.Record, room: limit, messages: b.Record.Messages,
		piece: &pb.BulkProgressed{BulkId: b.ID[:], From: b.Record.Cursor, FromRecipient: b.Record.CursorRecipient},
	}
	from, begun := b.Record.Cursor, relay.MessageID{}
	if b.Record.CursorRecipient > 0 && len(from) >= tailSize {
		// The last piece had only a part of a message. Its rows may have moved by that.
		_, begun, _ = tailOf(from)
		recipients, err := v.Recipients(begun)
		if err != nil {
			return nil, err
		}
		switch c.take(begun, recipients, b.Record.CursorRecipient) {
		case stopBefore:
			c.piece.Cursor = from
			return c.piece, nil
		case stopAfter:
			return c.piece, nil
		}
		from = append(slices.Clone(from), 0)
	}
	next, err := v.scanQueue(c.filter, from, func(id relay.MessageID, recipients []*pb.RecipientRecord) visit {
		if id == begun {
			return goOn // all of it is in the piece
		}
		return c.take(id, recipients, 0)
	})
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
	filter   Filter
	bulk     *pb.BulkRecord
	room     int
	messages uint64
	piece    *pb.BulkProgressed
}

func (c *cutter) take(id relay.MessageID, recipients []*pb.RecipientRecord, first uint32) visit {
	for number := first; int(number) < len(recipients); number++ {
		if !c.filter.MatchesQueued(recipients[number]) {
			continue
		}
		if c.room == 0 {
			c.piece.CursorRecipient = number
			return stopBefore
		}
		c.room--
		c.piece.Targets = AddTarget(c.piece.Targets, id, number)
	}
	if !bytes.Equal(c.bulk.LastMessage, id[:]) {
		c.messages++
	}
	if c.bulk.Limit != 0 && c.messages >= c.bulk.Limit {
		c.piece.Finished = true
		return stopAfter
	}
	return goOn
}
