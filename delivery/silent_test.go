package delivery

import (
	"hash/crc32"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// A peer that answers EHLO and nothing more gets envelope and content in one
// flight, so what it was sent is in doubt. It is an outage all the same, and
// what waits behind it is left alone.
func TestPeerSilentAtMailIsDown(t *testing.T) {
	w := newWorld(t, "a", "b")
	s := w.sink(sink.Config{})
	s.SetAnswer(sink.On("MAIL", sink.Reply{Code: 250, Silent: true, Hangup: true}))
	const slots, messages = 3, 60
	w.route("example.test", "dest", slots, s.Addr())
	w.runAll()
	ids := w.acceptMany(messages, "example.test")
	w.await("the destination is down", func() bool {
		return w.health("dest").State == pb.DestinationHealth_STATE_DOWN
	})
	w.await("some probes", func() bool { return w.health("dest").Failed >= 4 })
	doubted := 0
	for _, id := range ids {
		if w.recipient(id, 0).InDoubt > 0 {
			doubted++
		}
	}
	// Those under way when it began, and one with each probe since.
	if most := slots + int(w.health("dest").Failed) + 1; doubted == 0 || doubted > most {
		t.Errorf("%d messages in doubt, want 1 to %d", doubted, most)
	}
}

// An attempt that holds its slot for too long says nothing of the host: the
// message waits by its own policy, and others go on.
func TestAttemptThatTakesTooLong(t *testing.T) {
	w := newWorld(t, "a")
	w.timing.Attempt = 2 * time.Second
	// Envelope and content apart, so that nothing is in doubt.
	s := w.sink(sink.Config{Offer: sink.OfferWithout("CHUNKING", "PIPELINING")})
	s.SetAnswer(func(step sink.Step) sink.Reply {
		if step.Verb == "RCPT" && strings.Contains(step.Address, "slow") {
			return sink.Reply{Hold: w.ctx.Done()}
		}
		return sink.Reply{}
	})
	w.route("example.test", "dest", 5, s.Addr())
	w.runAll()
	slow := w.accept(testSender, "slow@example.test")
	w.await("the attempt is cut off", func() bool { return w.recipient(slow, 0).Attempts == 1 })
	r := w.recipient(slow, 0)
	if r.State != pb.RecipientState_RECIPIENT_STATE_PENDING || time.Until(time.Unix(0, r.NextAttempt)) < 10*time.Second {
		t.Errorf("the slow message: %v, want it to wait by its policy", r)
	}
	if state := w.health("dest").State; state != pb.DestinationHealth_STATE_UP {
		t.Errorf("the destination is %v", state)
	}
	w.acceptMany(3, "example.test")
	w.awaitDelivered("dest", 3)
}

// A body that is damaged here can't be sent, and can't be returned: its sender
// learns of the end all the same.
func TestDamagedMessageEnds(t *testing.T) {
	w := newWorld(t, "a")
	s := w.sink(sink.Config{})
	origin := w.sink(sink.Config{})
	w.route("example.test", "dest", 5, s.Addr())
	w.route("origin.test", "home", 5, origin.Addr())
	w.ids++
	id := relay.MessageID(append(relay.LowestMessageID(w.clock.now())[:8], "00000099"...))
	piece := []byte("Subject: damaged\r\n\r\nbody\r\n")
	incarnation := w.any()
	w.must(incarnation, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
		MessageId: id[:], Crc32C: crc32.Checksum(piece, castagnoli),
	}}}, piece)
	w.must(incarnation, &pb.Event{Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: testSender},
		Recipients: []*pb.Recipient{{Address: "one@example.test"}},
		Content:    &pb.Content{Size: uint64(len(piece)), Pieces: 1, Crc32C: 1}, // not the body's
		Origin:     &pb.Origin{},
	}}}, nil)
	w.runAll()
	w.await("an attempt has failed", func() bool { return w.recipient(id, 0).Attempts > 0 })
	if got := s.Stats().Committed; got != 0 {
		t.Fatalf("%d damaged messages were taken", got)
	}
	w.clock.advance(5*24*time.Hour + time.Hour)
	w.must(incarnation, &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
		Operation: &pb.Operation{Kind: pb.Operation_KIND_RETRY},
		Targets:   []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}},
	}}}, nil)
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	must(t, origin.Wait(w.ctx, func(all []sink.Message) bool { return len(all) == 1 }))
	report := string(origin.Messages()[0].Data)
	if !strings.Contains(report, "one@example.test") || strings.Contains(report, "Subject: damaged") {
		t.Errorf("report:\n%s", report)
	}
}
