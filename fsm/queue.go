package fsm

import (
	"slices"
	"time"

	"holdfast/relay"
)

// Due is a recipient that waits in a destination's queue.
type Due struct {
	Key       QueueKey
	At        time.Time
	ID        relay.MessageID
	Recipient uint32
}

// Waiting lists what waits for a destination from a key on (nil: from the
// beginning), in order of due time, up to limit.
func (s *State) Waiting(destination string, from QueueKey, limit int) ([]Due, error) {
	gen, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer gen.release()
	prefix := queuePrefix(destination)
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

// Compare orders keys of one destination by due time.
func (k QueueKey) Compare(other QueueKey) int { return slices.Compare(k, other) }

// OpenRecipient is a pending recipient with the age that expiry goes by.
type OpenRecipient struct {
	AcceptedAt time.Time
	ID         relay.MessageID
	Recipient  uint32
}

// Oldest lists the pending recipients of a domain, oldest acceptance first, that
// were accepted before a time, up to limit.
func (s *State) Oldest(domain string, before time.Time, limit int) ([]OpenRecipient, error) {
	gen, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer gen.release()
	prefix := append(openPrefix(domain), classPending)
	var found []OpenRecipient
	err = scan(gen.db, prefix, func(key, _ []byte) error {
		at, id, number := tailOf(key)
		if len(found) == limit || at >= before.UnixNano() {
			return errStop
		}
		found = append(found, OpenRecipient{AcceptedAt: time.Unix(0, at), ID: id, Recipient: number})
		return nil
	})
	return found, err
}
