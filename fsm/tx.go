package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// tx folds one batch of entries: rows go into one Pebble batch that reads its
// own writes, everything that readers may see waits here until it is committed.
//
// The first error sticks and the batch is never committed, so apply functions
// needn't check each read: what they then write goes nowhere.
type tx struct {
	s       *State
	gen     *generation
	batch   *pebble.Batch
	tables  tables
	digests digests
	err     error

	applied  *pb.AppliedRecord
	counters map[string]*pb.CounterRecord // changed in this batch, by key

	// The entry and the event that are being applied.
	index, term uint64
	historyRows uint32
	feedRow     []byte // what the entry adds to the feed
	event       *pb.Event
	payload     []byte
	node        string // the proposer

	staged staged
}

// encode is the canonical encoding of a stored record.
func encode(record proto.Message) []byte {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(record)
	if err != nil {
		panic(err) // only for strings that aren't UTF-8, which events can't carry either
	}
	return value
}

func (t *tx) failed(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *tx) failedIf(err error) {
	if err != nil {
		t.failed(err)
	}
}

// get reads a row as this batch has left it; nil where there is none.
func (t *tx) get(key []byte) []byte {
	var row []byte
	err := readValue(t.batch, key, func(value []byte) { row = append(make([]byte, 0, len(value)), value...) })
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.failed(fmt.Errorf("read row %x: %w", key, err))
		return nil
	}
	return row
}

// load reads a row into record and returns it as it stands, nil where there is none.
func (t *tx) load(key []byte, record proto.Message) []byte {
	value := t.get(key)
	if value == nil {
		return nil
	}
	if err := proto.Unmarshal(value, record); err != nil {
		t.failed(fmt.Errorf("row %x is damaged: %w", key, err))
		return nil
	}
	return value
}

// put writes a row over old, which is nil where there was none.
func (t *tx) put(key, old, value []byte) {
	if inTables(family(key[0])) && !bytes.Equal(old, value) {
		t.keepTableRow(key, old)
	}
	if old != nil {
		t.digests.remove(key, rowHash(key, old))
	}
	t.digests.add(key, rowHash(key, value))
	if err := t.batch.Set(key, value, nil); err != nil {
		t.failed(fmt.Errorf("write row %x: %w", key, err))
	}
}

// remove deletes a row that stands as old.
func (t *tx) remove(key, old []byte) {
	if inTables(family(key[0])) {
		t.keepTableRow(key, old)
	}
	t.digests.remove(key, rowHash(key, old))
	if err := t.batch.Delete(key, nil); err != nil {
		t.failed(fmt.Errorf("delete row %x: %w", key, err))
	}
}

// putContent writes bytes of a body, which are never read again to be removed.
func (t *tx) putContent(key, bytes []byte, crc uint32) {
	t.digests.add(key, contentHash(key, uint32(len(bytes)), crc))
	if err := t.batch.Set(key, bytes, nil); err != nil {
		t.failed(fmt.Errorf("write content %x: %w", key, err))
	}
}

func (t *tx) removeContent(key []byte, size, crc uint32) {
	t.digests.remove(key, contentHash(key, size, crc))
	if err := t.batch.DeleteSized(key, size, nil); err != nil {
		t.failed(fmt.Errorf("delete content %x: %w", key, err))
	}
}

// setIndex writes a derived row, which has no digest.
func (t *tx) setIndex(key, value []byte) {
	if err := t.batch.Set(key, value, nil); err != nil {
		t.failed(fmt.Errorf("write index %x: %w", key, err))
	}
}

func (t *tx) removeIndex(key []byte) {
	if err := t.batch.Delete(key, nil); err != nil {
		t.failed(fmt.Errorf("delete index %x: %w", key, err))
	}
}

// removeRange deletes derived rows.
func (t *tx) removeRange(lower, upper []byte) {
	if err := t.batch.DeleteRange(lower, upper, nil); err != nil {
		t.failed(fmt.Errorf("delete index %x to %x: %w", lower, upper, err))
	}
}

// keysOf lists keys with a prefix, at most limit of them.
func (t *tx) keysOf(prefix []byte, limit int) [][]byte {
	var keys [][]byte
	err := scan(t.batch, prefix, func(key, _ []byte) error {
		if len(keys) == limit {
			return errStop
		}
		keys = append(keys, slices.Clone(key))
		return nil
	})
	if err != nil {
		t.failed(fmt.Errorf("scan %x: %w", prefix, err))
	}
	return keys
}

// counter is the record of a domain ('d') or destination ('D') to be changed.
func (t *tx) counter(kind byte, name string) *pb.CounterRecord {
	key := string(keyOfCounter(kind, name))
	if c, ok := t.counters[key]; ok {
		return c
	}
	c := &pb.CounterRecord{}
	if old, ok := lookup(t.tables.counters, key); ok {
		c = proto.Clone(old).(*pb.CounterRecord)
	}
	t.counters[key] = c
	return c
}

// flushCounters writes the changed counters, in the order of their keys.
func (t *tx) flushCounters() {
	keys := make([]string, 0, len(t.counters))
	for key := range t.counters {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	txn := t.tables.counters.Txn()
	for _, key := range keys {
		var old []byte
		if before, ok := lookup(t.tables.counters, key); ok {
			old = encode(before)
			// An empty encoding is a row too.
			if old == nil {
				old = []byte{}
			}
		}
		t.put([]byte(key), old, encode(t.counters[key]))
		txn.Insert([]byte(key), t.counters[key])
	}
	t.tables.counters = txn.Commit()
	clear(t.counters)
}
