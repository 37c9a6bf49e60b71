package fsm

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Filter narrows a listing. Empty fields match everything.
type Filter struct {
	Domain      string // of a recipient, lower case
	Destination string
	From        string // an address, "*@domain", or "<>"
	To          string // an address or "*@domain"
	States      []pb.RecipientState
	Since       time.Time // of acceptance
	Until       time.Time
	// Index leaves out what came or changed after a raft index; 0 for none.
	Index uint64
}

// ErrCursor is returned for a cursor that isn't of this listing.
var ErrCursor = errors.New("the cursor is not of this listing")

// maxScanned bounds the rows one call reads: a filter that matches little then
// returns an incomplete page with a cursor.
const maxScanned = 20_000

// Queue lists messages with pending, held or frozen recipients, by domain and
// then by age; or, where the filter is for deleted ones alone, those that can
// come back, by the end of that time. A cursor is the next of the call before;
// nil starts, and comes back at the end. A message with recipients in several
// domains is listed with the first of its recipients that matches.
func (v *View) Queue(f Filter, cursor []byte, limit int) (ids []relay.MessageID, next []byte, err error) {
	next, err = v.scanQueue(f, cursor, func(id relay.MessageID, _ []*pb.RecipientRecord) visit {
		ids = append(ids, id)
		if len(ids) == limit {
			return stopAfter
		}
		return goOn
	})
	return ids, next, err
}

// visit says where a scan goes on.
type visit int

const (
	goOn       visit = iota
	stopAfter        // this message
	stopBefore       // it: the next scan begins with it again
)

// scanQueue calls each with the messages that Queue lists and all their recipients.
func (v *View) scanQueue(f Filter, cursor []byte, each func(relay.MessageID, []*pb.RecipientRecord) visit) (next []byte, err error) {
	lower, upper := f.queueRange()
	if cursor != nil {
		if !within(cursor, lower, upper) {
			return nil, ErrCursor
		}
		lower = cursor
	}
	scanned, stopped := 0, false
	var last listing
	err = scanFrom(v.snap, lower, upper, func(key, _ []byte) error {
		if stopped || scanned == maxScanned {
			next = slices.Clone(key)
			return errStop
		}
		scanned++
		_, id, number := tailOf(key)
		if last.id != id {
			// The rows of one message lie together: it is read once for all of them.
			if last, err = v.listing(f, id); err != nil {
				return err
			}
		}
		if !last.matches || last.number != number {
			return nil
		}
		switch each(id, last.recipients) {
		case stopAfter:
			stopped = true
		case stopBefore:
			next = slices.Clone(key)
			return errStop
		}
		return nil
	})
	return next, err
}

// queueRange is where the rows are that a listing of the queue reads.
func (f Filter) queueRange() (lower, upper []byte) {
	lower = []byte{byte(famOpen)}
	switch {
	case f.isForDeleted():
		lower = leavingPrefix(leavingDeleted)
	case f.Domain != "":
		lower = openPrefix(f.Domain)
	}
	return lower, after(lower)
}

// isForDeleted: the filter is for what was deleted and can come back.
func (f Filter) isForDeleted() bool {
	return len(f.States) == 1 && f.States[0] == pb.RecipientState_RECIPIENT_STATE_DELETED
}

// MatchesQueued reports whether the filter means a recipient that is in the
// queue, or can come back to it.
func (f Filter) MatchesQueued(r *pb.RecipientRecord) bool {
	if f.isForDeleted() {
		return r.UndoUntil != 0 && f.MatchesRecipient(r)
	}
	return isOpen(r.State) && f.MatchesRecipient(r)
}

// listing says with which of its recipients a message is listed: the first one
// that matches.
type listing struct {
	id         relay.MessageID
	matches    bool
	number     uint32
	recipients []*pb.RecipientRecord
}

func (v *View) listing(f Filter, id relay.MessageID) (listing, error) {
	l := listing{id: id}
	m, err := v.Message(id)
	if err != nil || !f.matchesMessage(m) {
		return l, err
	}
	l.recipients, err = v.Recipients(id)
	for i, rec := range l.recipients {
		if f.MatchesQueued(rec) {
			l.matches, l.number = true, uint32(i)
			break
		}
	}
	return l, err
}

// within reports whether a cursor that came from outside lies in a range.
func within(cursor, lower, upper []byte) bool {
	return bytes.Compare(cursor, lower) >= 0 && bytes.Compare(cursor, upper) < 0
}

// Log lists messages, also those that have ended, newest first. A cursor is the
// next of the call before; nil starts, and comes back at the end.
func (v *View) Log(f Filter, cursor []byte, limit int) (ids []relay.MessageID, next []byte, err error) {
	prefix := f.logPrefix()
	if cursor != nil && !within(cursor, prefix, after(prefix)) {
		return nil, nil, ErrCursor
	}
	iter, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: f.logLower(prefix), UpperBound: f.logUpper(prefix)})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	var valid bool
	if cursor == nil {
		valid = iter.Last()
	} else {
		valid = iter.SeekLT(cursor)
	}
	for scanned := 0; valid; valid = iter.Prev() {
		if len(ids) == limit || scanned == maxScanned {
			return ids, append(slices.Clone(iter.Key()), 0), nil
		}
		scanned++
		id := relay.MessageID(iter.Key()[len(iter.Key())-len(relay.MessageID{}):])
		matches, err := v.matches(f, id)
		if err != nil {
			return nil, nil, err
		}
		if matches {
			ids = append(ids, id)
		}
	}
	return ids, nil, iter.Error()
}

func (v *View) matches(f Filter, id relay.MessageID) (bool, error) {
	m, err := v.Message(id)
	if err != nil {
		return false, err
	}
	if !f.matchesMessage(m) {
		return false, nil
	}
	if f.Domain == "" && f.Destination == "" && f.To == "" && len(f.States) == 0 {
		return true, nil
	}
	recipients, err := v.Recipients(id)
	return slices.ContainsFunc(recipients, f.MatchesRecipient), err
}

// logPrefix chooses the narrowest index that the filter names.
func (f Filter) logPrefix() []byte {
	switch {
	case f.To != "" && !strings.HasPrefix(f.To, "*@"):
		return indexPrefix(indexTo, f.To)
	case f.From == "<>":
		return indexPrefix(indexFrom, "")
	case f.From != "" && !strings.HasPrefix(f.From, "*@"):
		return indexPrefix(indexFrom, f.From)
	case f.Domain != "":
		return indexPrefix(indexDomain, f.Domain)
	case strings.HasPrefix(f.To, "*@"):
		return indexPrefix(indexDomain, f.To[2:])
	}
	return []byte{byte(famMessages)}
}

// Ids sort by the time they were made, which is at most a session's length
// before acceptance; the bounds leave room for that.
const idSlack = 2 * time.Hour

func (f Filter) logLower(prefix []byte) []byte {
	if f.Since.IsZero() {
		return prefix
	}
	return append(slices.Clone(prefix), relay.LowestMessageID(f.Since.Add(-idSlack))...)
}

func (f Filter) logUpper(prefix []byte) []byte {
	if f.Until.IsZero() {
		return after(prefix)
	}
	return append(slices.Clone(prefix), relay.LowestMessageID(f.Until.Add(idSlack))...)
}

func (f Filter) matchesMessage(m *pb.MessageRecord) bool {
	accepted := time.Unix(0, m.AcceptedAt)
	if !f.Since.IsZero() && accepted.Before(f.Since) || !f.Until.IsZero() && !accepted.Before(f.Until) {
		return false
	}
	if f.Index != 0 && m.AcceptedIndex > f.Index {
		return false
	}
	from := m.Envelope.GetFrom()
	if f.From == "<>" {
		return from == ""
	}
	return f.From == "" || matchesAddress(f.From, from)
}

// MatchesRecipient reports whether the filter means a recipient; sender and time
// are the message's.
func (f Filter) MatchesRecipient(r *pb.RecipientRecord) bool {
	return (f.Domain == "" || r.Domain == f.Domain) &&
		(f.Destination == "" || r.Destination == f.Destination) &&
		(f.Index == 0 || r.ChangedIndex <= f.Index) &&
		(f.To == "" || f.matchesTo(r)) &&
		(len(f.States) == 0 || slices.Contains(f.States, r.State))
}

// matchesTo: a redirected recipient is found by the addresses that it had, too.
func (f Filter) matchesTo(r *pb.RecipientRecord) bool {
	return matchesAddress(f.To, r.Recipient.GetAddress()) ||
		slices.ContainsFunc(r.Earlier, func(earlier *pb.Recipient) bool { return matchesAddress(f.To, earlier.Address) })
}

// matchesAddress compares without regard to case; "*@domain" matches a domain.
func matchesAddress(pattern, address string) bool {
	if domain, ok := strings.CutPrefix(pattern, "*@"); ok {
		return relay.DomainOf(address) == strings.ToLower(domain)
	}
	return strings.EqualFold(pattern, address)
}
