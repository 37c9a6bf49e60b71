package relay

import (
	"fmt"
	"io"
	"time"

	"github.com/oklog/ulid/v2"
)

// MessageID names one accepted message. It is a ULID: ids sort by the
// accepting node's clock, to the millisecond.
type MessageID [16]byte

// NewMessageID makes an id from the time of acceptance and 80 random bits.
func NewMessageID(now time.Time, entropy io.Reader) (MessageID, error) {
	id, err := ulid.New(ulid.Timestamp(now), entropy)
	if err != nil {
		return MessageID{}, fmt.Errorf("new message id: %w", err)
	}
	return MessageID(id), nil
}

// ParseMessageID reads the 26 characters that String writes; case is ignored.
func ParseMessageID(s string) (MessageID, error) {
	id, err := ulid.ParseStrict(s)
	if err != nil {
		return MessageID{}, fmt.Errorf("message id %q is not a ULID: want the 26 letters and digits that `holdfast queue list` and the log show", s)
	}
	return MessageID(id), nil
}

// MessageIDFromBytes copies the 16 bytes of an id out of an event or a key.
func MessageIDFromBytes(b []byte) (MessageID, error) {
	if len(b) != len(MessageID{}) {
		return MessageID{}, fmt.Errorf("message id has %d bytes, want 16", len(b))
	}
	return MessageID(b), nil
}

// String writes the id as 26 characters of Crockford's base 32.
func (id MessageID) String() string { return ulid.ULID(id).String() }

// Time is the millisecond in which the id was made.
func (id MessageID) Time() time.Time { return ulid.Time(ulid.ULID(id).Time()) }

// LowestMessageID is the smallest id that can be made at a time, as bytes: a
// bound for keys that end in ids. Times before 1970 give the smallest id, times
// after the year 10889 the largest time there is.
func LowestMessageID(at time.Time) []byte {
	var id ulid.ULID
	if ms := at.UnixMilli(); ms > 0 {
		ms = min(ms, int64(ulid.MaxTime()))
		if err := id.SetTime(uint64(ms)); err != nil {
			panic(err)
		}
	}
	return id[:]
}

// MarshalText writes the id as String does, for logs and JSON.
func (id MessageID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
