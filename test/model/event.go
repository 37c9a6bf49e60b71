package model

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// now stamps every event: the rules under test read no time.
const now = 1_700_000_000_000_000_000

var theBody = []byte("Subject: test\r\n\r\nHello.\r\n")

// space keeps the names of one log apart from those of the others that are
// folded by the same state machine.
type space struct {
	number      uint64
	destination string
}

func (s space) name(node uint8) string { return fmt.Sprintf("%s-%d", nodeNames[node], s.number) }

func (s space) domain() string { return fmt.Sprintf("d%d.test", s.number) }

func (s space) message() (id relay.MessageID) {
	binary.BigEndian.PutUint64(id[:], s.number)
	return id
}

// incarnation is the number of a node's n-th one.
func (s space) incarnation(node, n uint8) uint64 { return s.number<<16 | uint64(node+1)<<8 | uint64(n) }

func refOf(c *pb.ClaimRef) ref {
	if c == nil {
		return ref{}
	}
	return ref{node: uint8(c.Incarnation>>8) - 1, inc: uint8(c.Incarnation), number: uint8(c.Attempt)}
}

func (s space) claim(r ref) *pb.ClaimRef {
	return &pb.ClaimRef{Incarnation: s.incarnation(r.node, r.inc), Attempt: uint64(r.number)}
}

// event is an entry as the state machine gets it.
func (s space) event(e entry) (*pb.Event, []byte) {
	event := &pb.Event{
		Incarnation: s.incarnation(e.node, e.inc), Sequence: uint64(e.sequence),
		LowestOpen: uint64(e.lowest), Time: now,
	}
	message := s.message()
	id := message[:]
	switch e.kind {
	case accepted:
		event.Kind = &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
			MessageId: id, Envelope: &pb.Envelope{From: "sender@elsewhere.test"},
			Recipients: []*pb.Recipient{{Address: "someone@" + s.domain()}},
			Content:    &pb.Content{Size: uint64(len(theBody)), Crc32C: crc32.Checksum(theBody, crc32.MakeTable(crc32.Castagnoli))},
			Origin:     &pb.Origin{Node: s.name(e.node)},
		}}
		return event, theBody
	case aborted:
		event.Kind = &pb.Event_AcceptanceAborted{AcceptanceAborted: &pb.AcceptanceAborted{MessageId: id}}
	case claimed:
		event.Kind = &pb.Event_AttemptStarted{AttemptStarted: &pb.AttemptStarted{Claims: []*pb.AttemptStarted_Claim{{
			Attempt: uint64(e.claim.number), MessageId: id, Recipients: []uint32{0}, Destination: s.destination,
		}}}}
	case delivered:
		event.Kind = &pb.Event_Delivered{Delivered: &pb.Delivered{Claim: s.claim(e.claim), MessageId: id,
			Attempt:    &pb.Attempt{Node: s.name(e.node)},
			Recipients: []*pb.Delivered_Recipient{{Code: 250, Text: "ok"}}}}
	case failed:
		event.Kind = &pb.Event_AttemptFailed{AttemptFailed: &pb.AttemptFailed{Claim: s.claim(e.claim), MessageId: id,
			Recipients: []*pb.AttemptFailed_Recipient{{NextAttempt: now,
				Failure: &pb.Failure{Cause: "deferred", Phase: "data", Code: 451, Text: "later", At: now}}}}}
	case released, doubted:
		event.Kind = &pb.Event_ClaimsReleased{ClaimsReleased: &pb.ClaimsReleased{Claims: []*pb.ClaimsReleased_Claim{{
			Claim: s.claim(e.claim), MessageId: id, Recipients: []uint32{0}, InDoubt: e.kind == doubted,
		}}}}
	case cameUp:
		up := &pb.NodeUp{Node: s.name(e.node), Incarnation: event.Incarnation}
		if e.replaces != 0 {
			up.Replaces = s.incarnation(e.node, e.replaces)
		}
		event.Kind = &pb.Event_NodeUp{NodeUp: up}
	case wentDown:
		event.Incarnation = 0 // a leader's own
		event.Kind = &pb.Event_NodeDown{NodeDown: &pb.NodeDown{
			Node: s.name(e.node), Incarnation: s.incarnation(e.node, e.inc), Term: uint64(e.saw),
		}}
	default:
		panic(fmt.Sprintf("an entry of kind %d", e.kind))
	}
	return event, nil
}

// nothing is an event without an effect, in place of one that a rule taken out
// would leave without one.
func (s space) nothing(e entry) *pb.Event {
	return &pb.Event{Incarnation: s.incarnation(e.node, e.inc), Sequence: uint64(e.sequence), LowestOpen: uint64(e.lowest), Time: now, Ignorable: true}
}
