package fsm

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Bulk operations at a time, and how many that have ended are kept to be asked for.
const (
	maxBulks  = 16
	keptBulks = 50
)

// bulkStarted fixes what a bulk operation is to hit: what its filter picks at
// this index, or at the one before of which somebody saw a count and agreed. A
// recipient says when it last changed, so that whoever carries the operation on later
// can tell.
func (t *tx) bulkStarted(e *pb.BulkStarted) *pb.EventResult {
	id, err := relay.MessageIDFromBytes(e.BulkId)
	if err != nil {
		return invalid("bulk operation: %v", err)
	}
	if refusal := t.checkOperation(e.Operation); refusal != nil {
		return refusal
	}
	key := keyOfID(famBulks, id)
	if t.get(key) != nil {
		return invalid("bulk operation %s exists", id)
	}
	if !t.makeRoomForBulk() {
		return refused(pb.EventResult_CODE_IN_USE, "%d bulk operations are under way: wait until one is done", maxBulks)
	}
	index := t.index
	if e.Index != 0 {
		index = min(index, e.Index)
	}
	t.put(key, nil, encode(&pb.BulkRecord{
		Filter: e.Filter, Operation: e.Operation, Limit: e.Limit, Expected: e.Expected,
		Index: index, StartedAt: t.event.Time,
	}))
	t.staged.bulksChanged = true
	return resultOK
}

// makeRoomForBulk drops the oldest of those that have ended.
func (t *tx) makeRoomForBulk() bool {
	running, ended := 0, [][]byte(nil)
	for _, key := range t.keysOf([]byte{byte(famBulks)}, maxBulks+keptBulks+1) {
		record := &pb.BulkRecord{}
		if t.load(key, record) == nil || record.FinishedAt == 0 {
			running++
			continue
		}
		ended = append(ended, key)
	}
	for len(ended) >= keptBulks {
		t.remove(ended[0], t.get(ended[0]))
		ended = ended[1:]
	}
	return running < maxBulks
}

// bulkProgressed carries out one piece. It holds only from where the operation
// stands: of two nodes that both believe to lead, one is stale.
func (t *tx) bulkProgressed(e *pb.BulkProgressed) *pb.EventResult {
	id, err := relay.MessageIDFromBytes(e.BulkId)
	if err != nil {
		return invalid("bulk operation: %v", err)
	}
	key, bulk := keyOfID(famBulks, id), &pb.BulkRecord{}
	raw := t.load(key, bulk)
	if raw == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no bulk operation %s", id)
	}
	if bulk.FinishedAt != 0 || !bytes.Equal(bulk.Cursor, e.From) || bulk.CursorRecipient != e.FromRecipient {
		return stale("bulk operation %s is further on", id)
	}
	if n := countTargets(e.Targets); n > maxOperated {
		return invalid("a piece of %d recipients, at most %d", n, maxOperated)
	}
	if len(e.Failure) > MaxReason || e.Failure != "" && len(e.Targets) > 0 {
		return invalid("a bulk operation that ends before its time says why in %d bytes at most, and changes nothing", MaxReason)
	}
	count := t.operateAll(bulk.Operation, e.Targets, bulkPart{id: id, index: bulk.Index, noted: e.Noted})
	bulk = proto.Clone(bulk).(*pb.BulkRecord)
	if e.Noted {
		bulk.Met += messagesBegun(e)
	}
	bulk.Cursor, bulk.CursorRecipient = e.Cursor, e.CursorRecipient
	addToBulk(bulk, count)
	if e.Finished || e.Failure != "" {
		bulk.FinishedAt, bulk.Failure = max(1, t.event.Time), e.Failure
	}
	t.put(key, raw, encode(bulk))
	return &pb.EventResult{
		Code: pb.EventResult_CODE_OK, Changed: uint32(count.changed), Waiting: uint32(count.waiting),
	}
}

// messagesBegun counts the messages of a piece, without one that the piece before had
// a part of.
func messagesBegun(e *pb.BulkProgressed) uint64 {
	begun := uint64(len(e.Targets))
	if begun > 0 && e.FromRecipient > 0 && len(e.From) >= tailSize {
		if _, last, _ := tailOf(e.From); bytes.Equal(e.Targets[0].MessageId, last[:]) {
			begun--
		}
	}
	return begun
}

// bulkStopped ends an operation wherever it stands. A piece that was cut before and
// comes after it is stale, as after any end.
func (t *tx) bulkStopped(e *pb.BulkStopped) *pb.EventResult {
	id, err := relay.MessageIDFromBytes(e.BulkId)
	if err != nil {
		return invalid("bulk operation: %v", err)
	}
	if len(e.Reason) > MaxReason || len(t.event.By) > MaxReason {
		return invalid("who stops a bulk operation, and why, have %d bytes each at most", MaxReason)
	}
	key, bulk := keyOfID(famBulks, id), &pb.BulkRecord{}
	raw := t.load(key, bulk)
	switch {
	case raw == nil:
		return refused(pb.EventResult_CODE_NOT_FOUND, "no bulk operation %s", id)
	case bulk.FinishedAt != 0:
		return stale("bulk operation %s has ended", id)
	}
	bulk = proto.Clone(bulk).(*pb.BulkRecord)
	bulk.FinishedAt = max(1, t.event.Time)
	bulk.Stopped, bulk.StoppedBy, bulk.StopReason = true, t.event.By, e.Reason
	t.put(key, raw, encode(bulk))
	return resultOK
}

// note keeps with a message that a bulk operation has met it, in place of those
// that have ended.
func (t *tx) note(m *message, bulk relay.MessageID) {
	m.rec.Bulks = slices.DeleteFunc(m.rec.Bulks, func(met []byte) bool {
		record := &pb.BulkRecord{}
		return bytes.Equal(met, bulk[:]) || t.load(keyOfID(famBulks, relay.MessageID(met)), record) == nil || record.FinishedAt != 0
	})
	m.rec.Bulks = append(m.rec.Bulks, bulk[:])
}

func addToBulk(bulk *pb.BulkRecord, count operatedCount) {
	bulk.Changed += count.changed
	bulk.Waiting += count.waiting
	bulk.Refused += count.refused
	if bulk.Refusal == "" {
		bulk.Refusal = count.refusal
	}
	if count.messages == 0 {
		return
	}
	bulk.Messages += count.messages
	if bytes.Equal(bulk.LastMessage, count.first[:]) {
		bulk.Messages-- // the piece before had a part of it
	}
	bulk.LastMessage = count.last[:]
}
