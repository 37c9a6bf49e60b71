package fsm

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// rareStates have an index of the messages of which a recipient came to them.
// Nearly every message is pending once and delivered in the end: an index of
// these would say nothing.
var rareStates = []pb.RecipientState{
	pb.RecipientState_RECIPIENT_STATE_BOUNCED, pb.RecipientState_RECIPIENT_STATE_DROPPED,
	pb.RecipientState_RECIPIENT_STATE_FROZEN, pb.RecipientState_RECIPIENT_STATE_DELETED,
}

func keyOfState(state pb.RecipientState, id relay.MessageID) []byte {
	return append(statePrefix(state), id[:]...)
}

func statePrefix(state pb.RecipientState) []byte {
	return []byte{byte(famIndex), indexState, byte(state)}
}

func keyOfHeader(messageID string, id relay.MessageID) []byte {
	return keyOfIndex(indexHeader, headerTerm(messageID), id)
}

// headerTerm is a Message-ID without what people leave out when they copy it.
func headerTerm(messageID string) string {
	return indexTerm(strings.Trim(messageID, "<> \t"))
}

// Log lists messages, also those that have ended, newest first or oldest first.
// A cursor is the next of the call before; nil starts, and comes back at the end.
// Messages that come meanwhile change nothing of what is listed behind it.
func (v *View) Log(f Filter, cursor []byte, limit int) (ids []relay.MessageID, next []byte, err error) {
	return v.walk(f, cursor, limit, func(id relay.MessageID, _ *pb.MessageRecord) (bool, error) {
		return v.matchesLog(f, id)
	})
}

func (v *View) matchesLog(f Filter, id relay.MessageID) (bool, error) {
	if !f.aboutRecipients() && f.Reply == "" {
		return true, nil
	}
	matching := make(map[uint32]bool)
	number := uint32(0)
	err := scan(v.snap, keyOfID(famRecipients, id), func(_, value []byte) error {
		r := &pb.RecipientRecord{}
		if err := proto.Unmarshal(value, r); err != nil {
			return err
		}
		if f.MatchesRecipient(r) {
			matching[number] = true
		}
		number++
		if f.Reply == "" && len(matching) > 0 {
			return errStop
		}
		return nil
	})
	if err != nil || len(matching) == 0 || f.Reply == "" {
		return len(matching) > 0, err
	}
	return v.heard(f, id, matching)
}

// heard reports whether a remote said something about one of the recipients. What
// it said of a recipient that was another domain's then isn't for a filter that
// leaves out that domain.
func (v *View) heard(f Filter, id relay.MessageID, recipients map[uint32]bool) (found bool, err error) {
	reply := strings.ToLower(f.Reply)
	err = scan(v.snap, keyOfID(famHistory, id), func(key, value []byte) error {
		row, err := historyRow(key, value)
		if err != nil || !strings.Contains(strings.ToLower(replyOf(row.Record)), reply) ||
			f.Domains != nil && row.OfEarlierAddress() {
			return err
		}
		for _, number := range row.Record.Recipients {
			if !recipients[number] {
				continue
			}
			switch _, err := v.RecipientFor(f.Domains, id, number, row); {
			case err == nil:
				found = true
				return errStop
			case !errors.Is(err, ErrNotFound):
				return err
			}
		}
		return nil
	})
	return found, err
}

// replyOf is what a remote said in a row.
func replyOf(row *pb.HistoryRecord) string {
	if row.Failure == nil {
		return row.Text
	}
	return ReplyText(row.Failure)
}

// ReplyText is a remote's reply as it came, the system's error, or what this side
// found out.
func ReplyText(f *pb.Failure) string {
	if f.Code == 0 || f.Own {
		return f.Text
	}
	return (&relay.Reply{Code: int(f.Code), Enhanced: f.Enhanced, Text: f.Text}).String()
}

// Ids sort by the time they were made, which is at most a session's length
// before acceptance; the bounds leave room for that.
const idSlack = 2 * time.Hour

// walk calls matches with the messages that the indexes offer for a filter, in
// the order of their ids, and lists those that match. A cursor is the id to go
// on with.
func (v *View) walk(f Filter, cursor []byte, limit int, matches func(relay.MessageID, *pb.MessageRecord) (bool, error),
) (ids []relay.MessageID, next []byte, err error) {
	offered, err := v.offer(f)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = firstError(err, offered.close()) }()
	first, last := f.idRange()
	id := first
	if cursor != nil {
		if len(cursor) != len(id) {
			return nil, nil, ErrCursor
		}
		id = relay.MessageID(cursor)
	}
	for scanned := 0; ; scanned++ {
		found, agreed, more := offered.step(id)
		if id = found; !more || f.passed(id, last) {
			return ids, nil, nil
		}
		if agreed && len(ids) == limit || scanned == maxScanned {
			return ids, id[:], nil
		}
		if !agreed {
			continue
		}
		m, err := v.Message(id)
		switch {
		case err == nil && f.matchesMessage(m):
			matched, err := matches(id, m)
			if err != nil {
				return nil, nil, err
			}
			if matched {
				ids = append(ids, id)
			}
		case err != nil && !errors.Is(err, ErrNotFound):
			return nil, nil, err
		}
		if id, more = f.behind(id); !more {
			return ids, nil, nil
		}
	}
}
