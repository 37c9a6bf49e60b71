package fsm

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"
)

// loadRecord is readRow where a missing row leaves record as it is.
func loadRecord(db pebble.Reader, key []byte, record proto.Message) error {
	err := readRow(db, key, record)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// readRow reads a row into record, or ErrNotFound.
func readRow(db pebble.Reader, key []byte, record proto.Message) error {
	var damaged error
	err := readValue(db, key, func(value []byte) { damaged = proto.Unmarshal(value, record) })
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return ErrNotFound
	case err != nil:
		return fmt.Errorf("read row %x: %w", key, err)
	case damaged != nil:
		return fmt.Errorf("row %x is damaged: %w", key, damaged)
	}
	return nil
}

// readValue hands a row's value to use, which is right only where there is no error: of a
// value in a blob file that it can't read, Pebble says so at the close, and it is empty
// until then.
func readValue(db pebble.Reader, key []byte, use func(value []byte)) error {
	value, closer, err := db.Get(key)
	if err != nil {
		return err
	}
	use(value)
	return closer.Close()
}

// scan calls each with the rows whose keys begin with the prefix, in order.
// Key and value are only good until it returns.
func scan(db pebble.Reader, prefix []byte, each func(key, value []byte) error) error {
	return scanFrom(db, prefix, after(prefix), each)
}

// errStop ends a scan early without an error.
var errStop = errors.New("stop")

func scanFrom(db pebble.Reader, lower, upper []byte, each func(key, value []byte) error) error {
	iter, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer iter.Close()
	for valid := iter.First(); valid; valid = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return err
		}
		if err := each(iter.Key(), value); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return fmt.Errorf("row %x: %w", iter.Key(), err)
		}
	}
	return iter.Error()
}
