package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	domains      = 50
	senderDomain = "senders.test"
	incarnation  = 1
	// perEntry is how many messages share an entry, as under load.
	perEntry = 400
	// thirtyDays is the time over which the messages came.
	thirtyDays = 30 * 24 * time.Hour
)

var body = []byte("Subject: search\r\n\r\nHello.\r\n")

// filler makes the events of messages that came evenly over thirty days: most
// are delivered at once, some after a deferral or two, some bounce, some wait.
type filler struct {
	state       *fsm.State
	messages    int
	begin, last time.Time
	index       uint64
	sequence    uint64
}

func newFiller(state *fsm.State) *filler {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &filler{state: state, begin: begin, last: begin.Add(thirtyDays), index: 1}
}

func domainOf(n int) string      { return fmt.Sprintf("d%d.test", n%domains) }
func destinationOf(n int) string { return fmt.Sprintf("dest%d", n%domains) }
func (f *filler) recipient(n int) string {
	return fmt.Sprintf("user%d@%s", n%(f.messages/20+1), domainOf(n%(f.messages/20+1)))
}
func (f *filler) header(n int) string { return fmt.Sprintf("<%d@%s>", n, senderDomain) }
func (f *filler) at(n int) time.Time {
	return f.begin.Add(thirtyDays / time.Duration(f.messages) * time.Duration(n))
}
func (f *filler) id(n int) relay.MessageID {
	return relay.MessageID(append(relay.LowestMessageID(f.at(n))[:6], fmt.Appendf(nil, "%010d", n)...))
}

// sender is one of many, or for a tenth of the messages the null sender.
func (f *filler) sender(n int) string {
	if n%10 == 9 {
		return ""
	}
	return fmt.Sprintf("s%d@%s", n%(f.messages/30+1), senderDomain)
}

// fill brings a store up to a number of messages, unless it has them, and counts
// the rows of history.
func (f *filler) fill(ctx context.Context, messages int) (rows int, err error) {
	f.messages = messages
	view, err := f.state.View()
	if err != nil {
		return 0, err
	}
	have := view.Index()
	_, known := view.Message(f.id(messages - 1))
	if err := view.Close(); err != nil {
		return 0, err
	}
	for n := range messages {
		rows += rowsOf(n)
	}
	if known == nil {
		return rows, nil
	}
	if have > 0 {
		return 0, fmt.Errorf("the store is of another number of messages: remove its folder first")
	}
	if err := f.configure(); err != nil {
		return 0, err
	}
	for n := 0; n < messages; n += perEntry {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := f.entries(n, min(n+perEntry, messages)); err != nil {
			return 0, err
		}
	}
	return rows, nil
}

func (f *filler) configure() error {
	events := []*pb.Event{{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{Node: "a", Incarnation: incarnation}}}}
	for n := range domains {
		events = append(events,
			&pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: &pb.DestinationConfig{
				Name: destinationOf(n), Slots: 20, Tls: "none", Hosts: []*pb.DestinationConfig_Host{{Address: "127.0.0.1:25"}},
			}}}},
			&pb.Event{Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{Domain: &pb.DomainConfig{
				Name: domainOf(n), Destination: destinationOf(n), Policy: relay.DefaultPolicy,
			}}}})
	}
	return f.apply(f.begin, events, nil)
}

// deferrals, and what then became of a message.
func deferralsOf(n int) int {
	switch {
	case n%8 == 0:
		return 2
	case n%4 == 0:
		return 1
	}
	return 0
}

func bounces(n int) bool { return n%50 == 7 }
func waits(n int) bool   { return n%200 == 11 }

func rowsOf(n int) int {
	if waits(n) {
		return 1 + deferralsOf(n)
	}
	return 2 + deferralsOf(n)
}

// entries applies what some messages went through, stage by stage.
func (f *filler) entries(from, to int) error {
	now := f.at(from)
	var accepts []*pb.Event
	var payloads [][]byte
	for n := from; n < to; n++ {
		accepts, payloads = append(accepts, f.accepted(n)), append(payloads, body)
	}
	if err := f.apply(now, accepts, payloads); err != nil {
		return err
	}
	for try := range 3 {
		var claims, outcomes []*pb.Event
		for n := from; n < to; n++ {
			if try > deferralsOf(n) || try == deferralsOf(n) && waits(n) {
				continue
			}
			attempt := uint64(n)*4 + uint64(try) + 1
			claims = append(claims, f.claim(n, attempt))
			outcomes = append(outcomes, f.outcome(n, try, attempt))
		}
		if err := f.apply(now, claims, nil); err != nil {
			return err
		}
		if err := f.apply(now, outcomes, nil); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) accepted(n int) *pb.Event {
	id := f.id(n)
	return &pb.Event{Time: f.at(n).UnixNano(), Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: f.sender(n)}, HeaderMessageId: f.header(n),
		Recipients: []*pb.Recipient{{Address: f.recipient(n)}},
		Content:    &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))},
		Origin:     &pb.Origin{Node: "a", ClientAddress: "192.0.2.1", Helo: "client.test", Protocol: "ESMTP"},
	}}}
}

func (f *filler) domain(n int) int { return n % (f.messages/20 + 1) }

func (f *filler) claim(n int, attempt uint64) *pb.Event {
	id := f.id(n)
	return &pb.Event{Kind: &pb.Event_AttemptStarted{AttemptStarted: &pb.AttemptStarted{Claims: []*pb.AttemptStarted_Claim{{
		Attempt: attempt, MessageId: id[:], Recipients: []uint32{0}, Destination: destinationOf(f.domain(n)),
	}}}}}
}

func (f *filler) outcome(n, try int, attempt uint64) *pb.Event {
	id, claim := f.id(n), &pb.ClaimRef{Incarnation: incarnation, Attempt: attempt}
	record := &pb.Attempt{Node: "a", Host: "192.0.2.25:25", Tls: "TLS1.3", Started: f.at(n).UnixNano(), Duration: int64(80 * time.Millisecond)}
	switch {
	case try < deferralsOf(n):
		return &pb.Event{Kind: &pb.Event_AttemptFailed{AttemptFailed: &pb.AttemptFailed{
			Claim: claim, MessageId: id[:], Attempt: record, Recipients: []*pb.AttemptFailed_Recipient{{
				NextAttempt: f.at(n).Add(time.Minute).UnixNano(),
				Failure: &pb.Failure{Cause: "deferred", Phase: "rcpt", Host: record.Host, Code: 450, Enhanced: "4.7.1",
					Text: "greylisted, come back later", At: f.at(n).UnixNano()},
			}},
		}}}
	case bounces(n):
		return &pb.Event{Kind: &pb.Event_Bounced{Bounced: &pb.Bounced{
			Claim: claim, MessageId: id[:], Attempt: record, Reason: pb.Bounced_REASON_REJECTED,
			Recipients: []*pb.Bounced_Recipient{{Failure: &pb.Failure{Cause: "rejected", Phase: "rcpt", Host: record.Host, Code: 550,
				Enhanced: "5.1.1", Text: "no such user", At: f.at(n).UnixNano()}}},
		}}}
	}
	return &pb.Event{Kind: &pb.Event_Delivered{Delivered: &pb.Delivered{
		Claim: claim, MessageId: id[:], Attempt: record,
		Recipients: []*pb.Delivered_Recipient{{Code: 250, Text: "2.0.0 taken"}},
	}}}
}

// apply folds one entry and wants every event to take effect.
func (f *filler) apply(now time.Time, events []*pb.Event, payloads [][]byte) error {
	if len(events) == 0 {
		return nil
	}
	if payloads == nil {
		payloads = make([][]byte, len(events))
	}
	for _, event := range events {
		f.sequence++
		event.Incarnation, event.Sequence, event.LowestOpen = incarnation, f.sequence, f.sequence
		if event.Time == 0 {
			event.Time = now.UnixNano()
		}
	}
	data, err := fsm.EncodeEntry(events, payloads)
	if err != nil {
		return err
	}
	f.index++
	switch response := f.state.Apply(&raft.Log{Index: f.index, Term: 1, Type: raft.LogCommand, Data: data}).(type) {
	case *fsm.Applied:
		for i, result := range response.Results {
			if result.Code != pb.EventResult_CODE_OK {
				return fmt.Errorf("%T: %v %s", events[i].Kind, result.Code, result.Text)
			}
		}
		f.state.TakeChanges()
		return nil
	case error:
		return response
	}
	return nil
}
