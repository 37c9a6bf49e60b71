package fsm

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

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
	// Domains leaves out recipients of all other domains; nil for none.
	Domains []string
	// Index leaves out what came or changed after a raft index; 0 for none.
	Index uint64
	// Waiting means, in whatever state, also recipients that are being tried and for which
	// such an operation waits until that is over; 0 for none.
	Waiting pb.Operation_Kind

	// Of the log's listing alone.
	HeaderMessageID string // with or without its brackets
	Reply           string // part of what a remote server said, in any case
	OldestFirst     bool
}

// ErrCursor is returned for a cursor that isn't of this listing.
var ErrCursor = errors.New("the cursor is not of this listing")

// maxScanned bounds the rows one call reads: a filter that matches little then
// returns an incomplete page with a cursor.
const maxScanned = 2_000

// Queue lists messages with pending, held or frozen recipients, by domain and
// then by age; or, where the filter is for deleted ones alone, those that can
// come back, by the end of that time. A cursor is the next of the call before;
// nil starts, and comes back at the end. A message with recipients in several
// domains is listed with the first of its recipients that matches.
func (v *View) Queue(f Filter, cursor []byte, limit int) (ids []relay.MessageID, next []byte, err error) {
	if v.past {
		return v.queueAt(f, cursor, limit)
	}
	var last listing
	next, err = v.scanQueue(f, cursor, func(id relay.MessageID, number uint32) (visit, error) {
		if last.id != id {
			// The rows of one message in a domain lie together: it is read once for them.
			if last, err = v.listing(f, id); err != nil {
				return goOn, err
			}
		}
		if !last.matches || last.number != number {
			return goOn, nil
		}
		ids = append(ids, id)
		if len(ids) == limit {
			return stopAfter, nil
		}
		return goOn, nil
	})
	return ids, next, err
}

// visit says where a scan goes on.
type visit int

const (
	goOn       visit = iota
	stopAfter        // this row
	stopBefore       // it: the next scan begins with it again
)

// scanQueue calls each with the message and the number of the recipients that have a
// row where the filter may mean them.
func (v *View) scanQueue(f Filter, cursor []byte, each func(relay.MessageID, uint32) (visit, error)) (next []byte, err error) {
	ranges := f.queueRanges()
	if cursor != nil {
		if ranges = from(ranges, cursor); ranges == nil {
			return nil, ErrCursor
		}
	}
	scanned, stopped := 0, false
	visitRow := func(key, _ []byte) error {
		if stopped || scanned == maxScanned {
			next = slices.Clone(key)
			return errStop
		}
		scanned++
		_, id, number := tailOf(key)
		where, err := each(id, number)
		switch where {
		case stopAfter:
			stopped = true
		case stopBefore:
			next = slices.Clone(key)
			return errStop
		}
		return err
	}
	for _, r := range ranges {
		if err = scanFrom(v.snap, r.lower, r.upper, visitRow); err != nil || next != nil {
			break
		}
	}
	return next, err
}

// keyRange is the rows from lower up to upper, which isn't among them.
type keyRange struct{ lower, upper []byte }

// queueRanges are where the rows are that a listing of the queue reads, in the
// order of their keys. Where the filter is limited to domains, rows of others
// aren't read: how long it takes says nothing of them.
func (f Filter) queueRanges() []keyRange {
	var ranges []keyRange
	add := func(prefix []byte) { ranges = append(ranges, keyRange{prefix, after(prefix)}) }
	if f.Domain != "" && !f.allows(f.Domain) {
		return nil
	}
	if f.isForDeleted() {
		add(leavingPrefix(leavingDeleted))
	}
	switch {
	case f.isForDeleted() && f.Waiting == 0:
	case f.Domain != "":
		add(openPrefix(f.Domain))
	case f.Domains != nil:
		for _, domain := range slices.Sorted(slices.Values(f.Domains)) {
			add(openPrefix(domain))
		}
	default:
		add([]byte{byte(famOpen)})
	}
	return ranges
}

// from leaves of ranges what lies behind a cursor, itself included; nil where it
// is in none of them.
func from(ranges []keyRange, cursor []byte) []keyRange {
	for i, r := range ranges {
		if within(cursor, r.lower, r.upper) {
			rest := slices.Clone(ranges[i:])
			rest[0].lower = cursor
			return rest
		}
	}
	return nil
}

// allows reports whether the filter is for a domain.
func (f Filter) allows(domain string) bool {
	return f.Domains == nil || slices.Contains(f.Domains, domain)
}

// isForDeleted: the filter is for what was deleted and can come back.
func (f Filter) isForDeleted() bool {
	return len(f.States) == 1 && f.States[0] == pb.RecipientState_RECIPIENT_STATE_DELETED
}

// MatchesQueued reports whether the filter means a recipient that is in the
// queue, or can come back to it.
func (f Filter) MatchesQueued(r *pb.RecipientRecord) bool {
	if f.Waiting != 0 && waitsFor(r) == f.Waiting {
		return f.meansRecipient(r)
	}
	if f.isForDeleted() {
		return r.UndoUntil != 0 && f.MatchesRecipient(r)
	}
	return isOpen(r.State) && f.MatchesRecipient(r)
}

// listing says with which of its recipients a message is listed: the first one
// that matches.
type listing struct {
	id      relay.MessageID
	matches bool
	number  uint32
}

func (v *View) listing(f Filter, id relay.MessageID) (listing, error) {
	l := listing{id: id}
	m, err := v.Message(id)
	if err != nil || !f.matchesMessage(m) {
		return l, err
	}
	// It reads on only up to the first that matches: a message with a thousand
	// recipients in as many domains is met a thousand times.
	for number := range m.Recipients {
		rec, err := v.Recipient(id, number)
		if err != nil {
			return l, err
		}
		if f.MatchesQueued(rec) {
			l.matches, l.number = true, number
			break
		}
	}
	return l, nil
}

// within reports whether a cursor that came from outside lies in a range.
func within(cursor, lower, upper []byte) bool {
	return bytes.Compare(cursor, lower) >= 0 && bytes.Compare(cursor, upper) < 0
}

func (f Filter) matchesMessage(m *pb.MessageRecord) bool {
	accepted := time.Unix(0, m.AcceptedAt)
	if !f.Since.IsZero() && accepted.Before(f.Since) || !f.Until.IsZero() && !accepted.Before(f.Until) {
		return false
	}
	if f.Index != 0 && m.AcceptedIndex > f.Index {
		return false
	}
	if f.HeaderMessageID != "" && headerTerm(m.HeaderMessageId) != headerTerm(f.HeaderMessageID) {
		return false
	}
	from := m.Envelope.GetFrom()
	if f.From == "<>" {
		return from == ""
	}
	return f.From == "" || matchesAddress(f.From, from)
}

// aboutRecipients: the filter says more than sender and time.
func (f Filter) aboutRecipients() bool {
	return f.Domain != "" || f.Domains != nil || f.Destination != "" || f.To != "" || len(f.States) > 0
}

// MatchesRecipient reports whether the filter means a recipient; sender and time
// are the message's.
func (f Filter) MatchesRecipient(r *pb.RecipientRecord) bool {
	return f.meansRecipient(r) && (len(f.States) == 0 || slices.Contains(f.States, r.State))
}

// meansRecipient is MatchesRecipient whatever the state.
func (f Filter) meansRecipient(r *pb.RecipientRecord) bool {
	return f.allows(r.Domain) && (f.Domain == "" || r.Domain == f.Domain) &&
		(f.Destination == "" || r.Destination == f.Destination) &&
		(f.Index == 0 || r.ChangedIndex <= f.Index) &&
		(f.To == "" || f.matchesTo(r))
}

// matchesTo: a redirected recipient is found by the addresses that it had, too, as
// far as the filter is for their domains.
func (f Filter) matchesTo(r *pb.RecipientRecord) bool {
	return matchesAddress(f.To, r.Recipient.GetAddress()) ||
		slices.ContainsFunc(r.Earlier, func(earlier *pb.Recipient) bool {
			return f.allows(domainOf(earlier)) && matchesAddress(f.To, earlier.Address)
		})
}

// anyoneAt stands in a filter before a domain. Recipients whose mail goes by another
// relay domain than their own have an index row under it.
const anyoneAt = "*@"

// matchesAddress compares without regard to case; "*@domain" matches a domain.
func matchesAddress(pattern, address string) bool {
	if domain, ok := strings.CutPrefix(pattern, anyoneAt); ok {
		return strings.EqualFold(relay.DomainOf(address), domain)
	}
	return strings.EqualFold(pattern, address)
}
