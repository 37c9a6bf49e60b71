package fsm

import (
	"encoding/binary"
	"strings"

	"holdfast/relay"
)

// family is the first byte of a key: what kind of row it is.
type family byte

const (
	famMessages      family = 'm' // id
	famRecipients    family = 'r' // id, number
	famContent       family = 'c' // id, piece: the bytes
	famPieces        family = 'p' // id, piece: size and checksum, for bodies that came in pieces
	famUploads       family = 'u' // id: bodies without their acceptance yet
	famTombstones    family = 't' // id: aborted acceptances
	famQueue         family = 'q' // destination, lane, due, id, number: pending and unclaimed
	famOpen          family = 'x' // domain, class, accepted, id, number: pending, held or frozen
	famClaims        family = 'k' // incarnation, attempt
	famHistory       family = 'h' // id, index, row
	famPast          family = 'v' // key of a recipient or of configuration, index: as it was before that
	famDomains       family = 'd' // name
	famDestinations  family = 'D' // name
	famPolicies      family = 'P' // name: operators' own
	famNodes         family = 'n' // name
	famSessions      family = 's' // incarnation
	famResults       family = 'e' // incarnation, index
	famCounters      family = 'z' // 'd' or 'D', name
	famEnded         family = 'y' // ended, id: messages without open recipients
	famSettings      family = 'g' // one row
	famCluster       family = 'C' // 'v' the state's version, 'd' the drill under way
	famBulks         family = 'b' // id: bulk operations, and the latest that have ended
	famTokens        family = 'T' // id: who may administer
	famAccounts      family = 'a' // name: who may authenticate over SMTP
	famListed        family = 'L' // domain, local part in lower case: recipients that operators listed
	famVerified      family = 'V' // domain, local part, "" for the whole: what destinations said of recipients
	famVerifiedUntil family = 'w' // until, domain, local part: the same in the order in which they go
	famLeaving       family = 'l' // kind, (destination,) time, id, number: recipients that go without an attempt
	famIndex         family = 'i' // derived: by what the log is searched and followed
	famSystem        family = 0   // this node's: applied index, raft configuration
)

// replicated lists the families that every node has alike, with the names under
// which their digests are compared. Derived rows (index) and the node's own
// (system) are not among them.
var replicated = []struct {
	family family
	name   string
}{
	{famAccounts, "accounts"},
	{famBulks, "bulks"},
	{famClaims, "claims"},
	{famCluster, "cluster"},
	{famContent, "content"},
	{famCounters, "counters"},
	{famDestinations, "destinations"},
	{famDomains, "domains"},
	{famEnded, "ended"},
	{famHistory, "history"},
	{famLeaving, "leaving"},
	{famListed, "listed"},
	{famMessages, "messages"},
	{famNodes, "nodes"},
	{famOpen, "open"},
	{famPast, "past"},
	{famPieces, "pieces"},
	{famPolicies, "policies"},
	{famQueue, "queue"},
	{famRecipients, "recipients"},
	{famResults, "results"},
	{famSessions, "sessions"},
	{famSettings, "settings"},
	{famTokens, "tokens"},
	{famTombstones, "tombstones"},
	{famUploads, "uploads"},
	{famVerified, "verified"},
	{famVerifiedUntil, "verified-until"},
}

var (
	keyApplied       = []byte{byte(famSystem), 'a'}
	keyConfiguration = []byte{byte(famSystem), 'c'}
)

// Class is what the retention of an open recipient goes by. Expiry reads those
// that are pending, each class by itself.
type Class byte

// The classes of open recipients.
const (
	ClassMail   Class = 'p' // pending, and its sender may still be told of a delay: the domain's policy
	ClassQuiet  Class = 'q' // pending, and its sender has been told or isn't to be: the same policy
	ClassReport Class = 'r' // pending, of a report of our own: the reports' policy
	ClassSpam   Class = 's' // pending, marked: the shorter of policy and the domain's spam retention
	classHeld   Class = 'h'
	classFrozen Class = 'z'
)

// PendingClasses lists the classes of pending recipients.
func PendingClasses() []Class { return []Class{ClassMail, ClassQuiet, ClassReport, ClassSpam} }

// A name in the middle of a key ends with a zero byte; no name contains one.
func appendName(key []byte, name string) []byte {
	key = append(key, name...)
	return append(key, 0)
}

// isName reports whether a name can be in the middle of a key.
func isName(name string) bool { return strings.IndexByte(name, 0) < 0 }

func keyOfID(f family, id relay.MessageID) []byte {
	return append([]byte{byte(f)}, id[:]...)
}

func keyOfPart(f family, id relay.MessageID, number uint32) []byte {
	return binary.BigEndian.AppendUint32(keyOfID(f, id), number)
}

func keyOfName(f family, name string) []byte {
	return append([]byte{byte(f)}, name...)
}

func keyOfCounter(kind byte, name string) []byte {
	return append([]byte{byte(famCounters), kind}, name...)
}

func keyOfPair(f family, a, b uint64) []byte {
	key := binary.BigEndian.AppendUint64([]byte{byte(f)}, a)
	return binary.BigEndian.AppendUint64(key, b)
}

func keyOfSession(incarnation uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(famSessions)}, incarnation)
}

func keyOfHistory(id relay.MessageID, index uint64, row uint32) []byte {
	key := binary.BigEndian.AppendUint64(keyOfID(famHistory, id), index)
	return binary.BigEndian.AppendUint32(key, row)
}

func keyOfQueue(destination string, lane Lane, due int64, id relay.MessageID, number uint32) []byte {
	key := lanePrefix(destination, lane)
	key = binary.BigEndian.AppendUint64(key, uint64(due))
	key = append(key, id[:]...)
	return binary.BigEndian.AppendUint32(key, number)
}

func lanePrefix(destination string, lane Lane) []byte {
	return append(appendName([]byte{byte(famQueue)}, destination), byte(lane))
}

func keyOfOpen(domain string, class Class, accepted int64, id relay.MessageID, number uint32) []byte {
	key := append(openPrefix(domain), byte(class))
	key = binary.BigEndian.AppendUint64(key, uint64(accepted))
	key = append(key, id[:]...)
	return binary.BigEndian.AppendUint32(key, number)
}

func openPrefix(domain string) []byte {
	return appendName([]byte{byte(famOpen)}, domain)
}

// tailSize is the length of what tailOf reads.
const tailSize = 8 + 16 + 4

// tailOf reads the time, message id and recipient number at the end of a queue
// or open key.
func tailOf(key []byte) (at int64, id relay.MessageID, number uint32) {
	tail := key[len(key)-tailSize:]
	return int64(binary.BigEndian.Uint64(tail)),
		relay.MessageID(tail[8:24]),
		binary.BigEndian.Uint32(tail[24:])
}

// Indexes over all messages, by which the log is searched: a term, then the id.
const (
	indexFrom   byte = 'f'
	indexTo     byte = 't'
	indexDomain byte = 'd'
	indexHeader byte = 'm' // the Message-ID header
	indexState  byte = 's' // a state that few messages come to
)

// Indexes of the log itself.
const (
	indexFeed  byte = 'L' // raft index: the messages whose history it added to
	indexClock byte = 'T' // second: the first raft index in it
)

func indexPrefix(index byte, term string) []byte {
	return appendName([]byte{byte(famIndex), index}, indexTerm(term))
}

// indexTerm is how an address is looked up: case doesn't matter to people.
// An address may hold a zero byte only if a session let one through; it must
// not end the term early.
func indexTerm(term string) string {
	return strings.ReplaceAll(strings.ToLower(term), "\x00", "")
}

func keyOfIndex(index byte, term string, id relay.MessageID) []byte {
	return append(indexPrefix(index, term), id[:]...)
}

func keyOfNumber(index byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(famIndex), index}, n)
}

// after is the smallest key behind all keys with the prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}
