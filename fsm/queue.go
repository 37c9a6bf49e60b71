package fsm

import (
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"holdfast/relay"
)

// Due is a recipient that waits in a destination's queue.
type Due struct {
	Key       QueueKey
	At        time.Time
	ID        relay.MessageID
	Recipient uint32
}

// Waiting lists what waits in a lane of a destination from a key on (nil: from
// the beginning), in order of due time, up to limit.
func (s *State) Waiting(destination string, lane Lane, from QueueKey, limit int) ([]Due, error) {
	gen, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer gen.release()
	prefix := lanePrefix(destination, lane)
	lower := prefix
	if from != nil {
		lower = from
	}
	var found []Due
	err = scanFrom(gen.db, lower, after(prefix), func(key, _ []byte) error {
		if len(found) == limit {
			return errStop
		}
		at, id, number := tailOf(key)
		found = append(found, Due{Key: slices.Clone(key), At: time.Unix(0, at), ID: id, Recipient: number})
		return nil
	})
	return found, err
}

// Behind is the smallest key after this one.
func (k QueueKey) Behind() QueueKey { return append(slices.Clone(k), 0) }

// lane is the part of the queue that the key is in.
func (k QueueKey) lane() Lane { return Lane(k[len(k)-tailSize-1]) }

// Compare orders keys of one lane of a destination by due time.
func (k QueueKey) Compare(other QueueKey) int { return slices.Compare(k, other) }

// OpenRecipient is a pending recipient with the age that expiry goes by.
type OpenRecipient struct {
	AcceptedAt time.Time
	ID         relay.MessageID
	Recipient  uint32
}

// Oldest lists the pending recipients of a class at a domain, oldest acceptance
// first, that were accepted before a time, up to limit.
func (s *State) Oldest(domain string, class Class, before time.Time, limit int) ([]OpenRecipient, error) {
	gen, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer gen.release()
	return oldest(gen.db, domain, class, before, limit)
}

// Oldest is as State.Oldest.
func (v *View) Oldest(domain string, class Class, before time.Time, limit int) ([]OpenRecipient, error) {
	return oldest(v.snap, domain, class, before, limit)
}

// Frozen counts the frozen recipients of a domain, also the reports that went there while
// it wasn't configured, which no counter has under its name. It reads a key for each.
func (v *View) Frozen(domain string) (n uint64, err error) {
	err = scan(v.snap, append(openPrefix(domain), byte(classFrozen)), func([]byte, []byte) error {
		n++
		return nil
	})
	return n, err
}

func oldest(db pebble.Reader, domain string, class Class, before time.Time, limit int) ([]OpenRecipient, error) {
	prefix := append(openPrefix(domain), byte(class))
	var found []OpenRecipient
	err := scan(db, prefix, func(key, _ []byte) error {
		at, id, number := tailOf(key)
		if len(found) == limit || at >= before.UnixNano() {
			return errStop
		}
		found = append(found, OpenRecipient{AcceptedAt: time.Unix(0, at), ID: id, Recipient: number})
		return nil
	})
	return found, err
}
