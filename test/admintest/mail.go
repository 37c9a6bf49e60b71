package admintest

import (
	"fmt"
	"hash/crc32"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Configure sets up destinations one and two, and a domain for each:
// one.test and two.test.
func (w *World) Configure() {
	w.t.Helper()
	for _, name := range []string{"one", "two"} {
		w.Fold(&pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: &pb.DestinationConfig{
			Name: name, Slots: 20, Tls: "opportunistic", ProbeMax: int64(5 * time.Minute),
			Hosts: []*pb.DestinationConfig_Host{{Address: "mail." + name + ".test:25", Priority: 10, Weight: 1}},
		}}}}, nil)
		w.Fold(&pb.Event{Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{Domain: &pb.DomainConfig{
			Name: name + ".test", Destination: name, Policy: relay.DefaultPolicy,
		}}}}, nil)
	}
}

var body = []byte("Subject: test\r\n\r\nHello.\r\n")

// Body is the message that Accept accepts.
func Body() string { return string(body) }

// Accept accepts a message, ago before Now.
func (w *World) Accept(ago time.Duration, from string, to ...string) relay.MessageID {
	w.t.Helper()
	w.mu.Lock()
	w.ids++
	n := byte(w.ids)
	w.mu.Unlock()
	id := relay.MessageID(append(relay.LowestMessageID(Now.Add(-ago))[:15:15], n))
	var recipients []*pb.Recipient
	for _, address := range to {
		recipients = append(recipients, &pb.Recipient{Address: address})
	}
	w.FoldAs(1, -ago, &pb.Event{Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: from}, Recipients: recipients,
		Content: &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))},
		Origin:  &pb.Origin{Node: "a", ClientAddress: "192.0.2.1", Helo: "client.test", Protocol: "ESMTPSA", Account: "app@client.test"},
	}}}, body)
	return id
}

// Owner is the incarnation that owns a destination.
func (w *World) Owner(destination string) uint64 {
	w.t.Helper()
	view, err := w.State.View()
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { check(w.t, view.Close()) }()
	name, ok := view.Owner(destination)
	if !ok {
		w.t.Fatalf("nobody owns %s", destination)
	}
	return map[string]uint64{"a": 1, "b": 2}[name]
}

// Claim starts an attempt at recipient 0 of a message, by the owner.
func (w *World) Claim(attempt uint64, id relay.MessageID, destination string) {
	w.t.Helper()
	w.FoldAs(w.Owner(destination), 0, &pb.Event{Kind: &pb.Event_AttemptStarted{AttemptStarted: &pb.AttemptStarted{
		Claims: []*pb.AttemptStarted_Claim{{Attempt: attempt, MessageId: id[:], Recipients: []uint32{0}, Destination: destination}},
	}}}, nil)
}

// Defer ends an attempt with a 4xx, to be repeated after a time.
func (w *World) Defer(attempt uint64, id relay.MessageID, destination string, after time.Duration) {
	w.t.Helper()
	owner := w.Owner(destination)
	w.FoldAs(owner, 0, &pb.Event{Kind: &pb.Event_AttemptFailed{AttemptFailed: &pb.AttemptFailed{
		Claim: &pb.ClaimRef{Incarnation: owner, Attempt: attempt}, MessageId: id[:],
		Recipients: []*pb.AttemptFailed_Recipient{{Failure: Greylisted(), NextAttempt: Now.Add(after).UnixNano()}},
		Attempt:    attemptRecord(destination),
	}}}, nil)
}

// Deliver ends an attempt with success.
func (w *World) Deliver(attempt uint64, id relay.MessageID, destination string) {
	w.t.Helper()
	owner := w.Owner(destination)
	w.FoldAs(owner, 0, &pb.Event{Kind: &pb.Event_Delivered{Delivered: &pb.Delivered{
		Claim: &pb.ClaimRef{Incarnation: owner, Attempt: attempt}, MessageId: id[:],
		Recipients: []*pb.Delivered_Recipient{{Code: 250, Text: "2.0.0 taken"}},
		Attempt:    attemptRecord(destination),
	}}}, nil)
}

func attemptRecord(destination string) *pb.Attempt {
	return &pb.Attempt{
		Node: "a", Host: "mail." + destination + ".test:25", Tls: "TLS1.3",
		Started: Now.UnixNano(), Duration: int64(120 * time.Millisecond),
	}
}

// Greylisted is a 4xx to RCPT.
func Greylisted() *pb.Failure {
	return &pb.Failure{
		Cause: "deferred", Phase: "rcpt", Host: "mail.one.test:25", Code: 450, Enhanced: "4.7.1",
		Text: "greylisted, come back later", At: Now.UnixNano(),
	}
}

// BringDown makes both nodes fail to reach a destination.
func (w *World) BringDown(destination string) {
	w.t.Helper()
	for probes := range uint64(2) {
		w.FoldAs(w.Owner(destination), 0, &pb.Event{Kind: &pb.Event_DestinationFailed{DestinationFailed: &pb.DestinationFailed{
			Name: destination, Probes: probes, NextProbe: Now.Add(5 * time.Second).UnixNano(),
			Failure: &pb.Failure{Cause: "refused", Phase: "connect", Host: "mail." + destination + ".test:25", Text: "connection refused", At: Now.UnixNano()},
		}}}, nil)
	}
}

// BringUp ends what BringDown began.
func (w *World) BringUp(destination string) {
	w.t.Helper()
	w.FoldAs(w.Owner(destination), 0, &pb.Event{Kind: &pb.Event_DestinationRecovered{DestinationRecovered: &pb.DestinationRecovered{
		Name: destination, Probes: 2,
	}}}, nil)
}

// Hold makes a message one that is held: two nodes die over their attempts at it.
func (w *World) Hold(id relay.MessageID, destination string) {
	w.t.Helper()
	deaths := 0
	for n := uint64(100); deaths < 2 && n < 200; n++ {
		name := fmt.Sprintf("doomed-%d", n)
		w.FoldAs(n, 0, &pb.Event{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{Node: name, Incarnation: n}}}, nil)
		if owner, _ := w.State.Owner(destination); owner == name {
			w.FoldAs(n, 0, &pb.Event{Kind: &pb.Event_AttemptStarted{AttemptStarted: &pb.AttemptStarted{
				Claims: []*pb.AttemptStarted_Claim{{Attempt: 1, MessageId: id[:], Recipients: []uint32{0}, Destination: destination}},
			}}}, nil)
			deaths++
		}
		w.FoldAs(0, 0, &pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{Node: name, Incarnation: n, Term: 1}}}, nil)
	}
}

// Bounce ends an attempt at recipient 0 with a 5xx and a report to the sender.
func (w *World) Bounce(attempt uint64, id relay.MessageID, destination string) {
	w.t.Helper()
	w.Claim(attempt, id, destination)
	owner := w.Owner(destination)
	report := append(relay.LowestMessageID(Now)[:15:15], 255)
	w.FoldAs(owner, 0, &pb.Event{Kind: &pb.Event_Bounced{Bounced: &pb.Bounced{
		Claim: &pb.ClaimRef{Incarnation: owner, Attempt: attempt}, MessageId: id[:], Reason: pb.Bounced_REASON_REJECTED,
		Recipients: []*pb.Bounced_Recipient{{Failure: Greylisted()}}, Attempt: attemptRecord(destination),
		Report: &pb.Bounced_Report{MessageId: report, Content: &pb.Content{
			Size: uint64(len(body)), Crc32C: crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)),
		}},
	}}}, body)
}
