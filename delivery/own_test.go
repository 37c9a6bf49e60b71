package delivery

import (
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// acceptDeclared files a message that its client declared 8BITMIME.
func (w *world) acceptDeclared(text string, to ...string) relay.MessageID {
	w.t.Helper()
	event, body := w.acceptance(testSender, text, to...)
	event.GetMessageAccepted().Envelope.BodyType = pb.BodyType_BODY_TYPE_8BITMIME
	w.must(w.any(), event, body)
	return relay.MessageID(event.GetMessageAccepted().MessageId)
}

// What this relay found out itself stands in the server's mouth nowhere: not in the
// report, whether made at once or from the record, and not in the log.
func TestOwnFindingIsNobodysReply(t *testing.T) {
	for name, held := range map[string]bool{"returned at once": false, "returned from the record": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			w.timing.Idle = 100 * time.Millisecond // orders are looked for each tenth of it
			senders := w.sendersAt()
			s := w.sink(sink.Config{Offer: sink.OfferWithout("8BITMIME")})
			w.set(&pb.DestinationConfig{
				Name: "dest", Slots: 2, Tls: "none", HoldRejected: held, Hosts: []*pb.DestinationConfig_Host{{Address: s.Addr()}},
			})
			w.route("example.test", "dest", 0)
			id := w.acceptDeclared("caf\xe9\r\n", "user@example.test")
			w.runAll()
			if held {
				w.await("the attempt is recorded", func() bool { return w.recipient(id, 0).Attempts == 1 })
				w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
					Operation: &pb.Operation{Kind: pb.Operation_KIND_BOUNCE, By: "ann"},
					Targets:   []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}},
				}}}, nil)
			}
			r := w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
			if f := r.LastError; !f.GetOwn() || f.GetEnhanced() != "5.6.1" {
				t.Errorf("last error %v", f)
			}
			must(t, senders.Wait(w.ctx, func(all []sink.Message) bool { return len(all) == 1 }))
			report := strings.Join(strings.Fields(string(senders.Messages()[0].Data)), " ")
			for _, want := range []string{
				"Diagnostic-Code: X-Holdfast; rejected at mail with " + s.Addr() + ": message declared 8BITMIME, which the next hop does not support",
				"Status: 5.6.1", "This relay found that the server " + s.Addr() + " cannot be given it: message declared",
			} {
				if !strings.Contains(report, want) {
					t.Errorf("no %q in %s", want, report)
				}
			}
			for _, claim := range []string{"answer", "Remote-MTA", "smtp; ", "554 5.6.1"} {
				if strings.Contains(report, claim) {
					t.Errorf("%q in %s", claim, report)
				}
			}
			if log := w.logs.String(); strings.Contains(log, "554 5.6.1") || !strings.Contains(log, "message declared 8BITMIME") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// A host in trouble that refuses EHLO and takes HELO costs nobody a message: what needs
// more waits, what is plain goes (R3).
func TestRefusedEHLOHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	s := w.sink(sink.Config{Answer: sink.On("EHLO", sink.Reply{Code: 502, Text: "not now"})})
	w.route("example.test", "dest", 2, s.Addr())
	plain := w.acceptDeclared("plain\r\n", "one@example.test")
	eightBit := w.acceptDeclared("caf\xe9\r\n", "two@example.test")
	w.runAll()
	w.awaitState(plain, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	w.await("an attempt for the other", func() bool { return w.recipient(eightBit, 0).Attempts == 1 })
	if r := w.recipient(eightBit, 0); r.State != pb.RecipientState_RECIPIENT_STATE_PENDING || !r.LastError.GetOwn() {
		t.Errorf("%v, want it to wait", r)
	}
	if health := w.health("dest"); health.State != pb.DestinationHealth_STATE_UP {
		t.Errorf("the host counts as %s: %v", health.State, health.Failure)
	}
}

// A host that lacks what a message needs is passed over for one that has it. While that
// one is away the message waits, and the destination, which takes others, is up.
func TestAnotherHostHasIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	lacks, has := w.sink(sink.Config{Offer: sink.OfferWithout("8BITMIME")}), w.sink(sink.Config{})
	has.SetAnswer(sink.On(sink.Connect, sink.Reply{Code: 421, Text: "not now", Hangup: true}))
	w.set(&pb.DestinationConfig{Name: "dest", Slots: 1, Tls: "none", Hosts: []*pb.DestinationConfig_Host{
		{Address: lacks.Addr(), Priority: 1}, {Address: has.Addr(), Priority: 2},
	}})
	w.route("example.test", "dest", 0)
	id := w.acceptDeclared("caf\xe9\r\n", "one@example.test")
	w.runAll()
	w.await("an attempt", func() bool { return w.recipient(id, 0).Attempts == 1 })
	if r := w.recipient(id, 0); r.State != pb.RecipientState_RECIPIENT_STATE_PENDING || r.LastError.GetEnhanced() != "5.6.1" {
		t.Errorf("%v, want it to wait", r)
	}
	if health := w.health("dest"); health.State != pb.DestinationHealth_STATE_UP {
		t.Errorf("the destination counts as %s: %v", health.State, health.Failure)
	}
	plain := w.acceptDeclared("plain\r\n", "two@example.test")
	w.awaitState(plain, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	has.SetAnswer(nil)
	w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
		Operation: &pb.Operation{Kind: pb.Operation_KIND_RETRY, By: "ann"},
		Targets:   []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}},
	}}}, nil)
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	if n := len(has.Messages()); n != 1 {
		t.Errorf("the host that has it took %d messages", n)
	}
}

// Where no host has it, it is returned at once.
func TestNoHostHasIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	offer := sink.OfferWithout("8BITMIME")
	one, other := w.sink(sink.Config{Offer: offer}), w.sink(sink.Config{Offer: offer})
	w.route("example.test", "dest", 1, one.Addr(), other.Addr())
	id := w.acceptDeclared("caf\xe9\r\n", "one@example.test")
	w.runAll()
	if r := w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_BOUNCED); r.Attempts != 1 {
		t.Errorf("%v", r)
	}
}
