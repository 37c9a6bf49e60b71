package fsm

import (
	"encoding/binary"
	"errors"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2"

	pb "holdfast/proto/holdfast/v1"
)

const nanosecondsPerSecond = int64(time.Second)

// advanceClock notes the first entry of each second, by the latest time that any
// event has brought so far: the clocks of proposers are not quite the same.
func (t *tx) advanceClock(events []*pb.Event) {
	clock := t.applied.Clock
	for _, event := range events {
		clock = max(clock, event.Time)
	}
	if second := clock / nanosecondsPerSecond; second > t.applied.Clock/nanosecondsPerSecond {
		t.setIndex(keyOfNumber(indexClock, uint64(second)), binary.BigEndian.AppendUint64(nil, t.index))
	}
	t.applied.Clock = clock
}

// ErrForgotten is returned for a time or an index of which nothing is kept.
var ErrForgotten = errors.New("nothing is kept of that time")

// IndexAt is the last raft index before a time, which counts in whole seconds,
// rounded up. A time before the first event is ErrForgotten, one later than the
// latest is the view's own index.
func (v *View) IndexAt(at time.Time) (uint64, error) {
	second := at.Add(time.Second - 1).Unix()
	iter, err := v.clockRows()
	if err != nil {
		return 0, err
	}
	defer iter.Close()
	if !iter.First() || second < secondOf(iter) {
		return 0, errors.Join(ErrForgotten, iter.Error())
	}
	index := v.applied.Index
	if iter.SeekGE(keyOfNumber(indexClock, uint64(second))) {
		index = indexOf(iter) - 1
	}
	return index, iter.Error()
}

// Beginning is the second of the earliest event of which the view has the past.
func (v *View) Beginning() (time.Time, error) {
	iter, err := v.clockRows()
	if err != nil {
		return time.Time{}, err
	}
	defer iter.Close()
	if !iter.First() {
		return time.Time{}, errors.Join(ErrForgotten, iter.Error())
	}
	return time.Unix(secondOf(iter), 0).UTC(), nil
}

// TimeOf is the second in which the log came to an index.
func (v *View) TimeOf(index uint64) (time.Time, error) {
	iter, err := v.clockRows()
	if err != nil {
		return time.Time{}, err
	}
	defer iter.Close()
	if !iter.First() || indexOf(iter) > index {
		return time.Time{}, errors.Join(ErrForgotten, iter.Error())
	}
	first := secondOf(iter)
	iter.Last()
	// Rows are in the order of the seconds and of the indexes alike.
	later := sort.Search(int(secondOf(iter)-first), func(n int) bool {
		return iter.SeekGE(keyOfNumber(indexClock, uint64(first+int64(n)+1))) && indexOf(iter) > index
	})
	return time.Unix(first+int64(later), 0), iter.Error()
}

func (v *View) clockRows() (*pebble.Iterator, error) {
	prefix := []byte{byte(famIndex), indexClock}
	return v.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
}

func secondOf(iter *pebble.Iterator) int64 {
	return int64(binary.BigEndian.Uint64(iter.Key()[2:]))
}

func indexOf(iter *pebble.Iterator) uint64 { return binary.BigEndian.Uint64(iter.Value()) }
