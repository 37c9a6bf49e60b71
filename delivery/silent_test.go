package delivery

import (
	"cmp"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"holdfast/delivery/smtpout"
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
	w.awaitUnreadable(id)
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

// shutsDown is a domain's destination that takes nothing for now, and nothing large ever.
func shutsDown(t *testing.T, domain string) (*world, *sink.Server) {
	w := newWorld(t, "a")
	s := w.sink(sink.Config{
		Offer:  []string{"PIPELINING", "CHUNKING", "SIZE 1000"},
		Answer: sink.On("MAIL", sink.Reply{Code: 421, Text: "shutting down", Hangup: true}),
	})
	w.route(domain, "dest", 5, s.Addr())
	w.runAll()
	return w, s
}

// While a destination is down for what it says to MAIL, a probe whose message is refused
// on this side, before MAIL, finds nothing out: the outage goes on.
func TestSilentProbeEndsNoOutage(t *testing.T) {
	t.Parallel()
	w, s := shutsDown(t, "example.test")
	small := w.accept("", "small@example.test")
	w.await("the destination is down", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_DOWN })
	large := w.acceptBody("", strings.Repeat("x", 998)+"\r\n", "large@example.test")
	w.awaitState(large, 0, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	failed := w.health("dest").Failed
	w.await("the next probe", func() bool { return w.health("dest").Failed > failed })
	if n := w.log.count(func(e *pb.Event) bool { return e.GetDestinationRecovered() != nil }); n != 0 {
		t.Errorf("it has recovered %d times", n)
	}
	if f := w.health("dest").Failure; f.Code != 421 {
		t.Errorf("down for %v", f)
	}
	s.SetAnswer(nil)
	w.awaitState(small, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
}

// untilBounced answers MAIL with 421 until something was returned, and then as then does.
func (w *world) untilBounced(then func(sink.Step) sink.Reply) func(sink.Step) sink.Reply {
	return func(step sink.Step) sink.Reply {
		switch {
		case w.log.count(func(e *pb.Event) bool { return e.GetBounced() != nil }) > 0:
			return then(step)
		case step.Verb == "MAIL":
			return sink.Reply{Code: 421, Text: "shutting down", Hangup: true}
		}
		return sink.Reply{}
	}
}

// A host that is back isn't kept waiting until all messages that it can't be given have
// had their turn as a probe: after the first it is asked for a stranger.
func TestSilentProbesDontDelayRecovery(t *testing.T) {
	t.Parallel()
	w, s := shutsDown(t, "example.test")
	s.SetAnswer(w.untilBounced(func(sink.Step) sink.Reply { return sink.Reply{} }))
	small := w.accept("", "small@example.test")
	w.await("the destination is down", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_DOWN })
	for range 4 {
		w.acceptBody("", strings.Repeat("x", 998)+"\r\n", "large@example.test")
	}
	w.awaitState(small, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	bounced, silent := 0, -1
	w.log.count(func(e *pb.Event) bool {
		switch {
		case e.GetBounced() != nil:
			bounced++
		case e.GetDestinationRecovered() != nil && silent < 0:
			silent = bounced
		}
		return false
	})
	if silent != 1 {
		t.Errorf("%d probes said nothing to the host", silent)
	}
}

// A host that takes mail and no stranger isn't asked for strangers for ever: after each
// it is a message's turn.
func TestHostThatTakesNoStranger(t *testing.T) {
	t.Parallel()
	for name, verb := range map[string]string{"refuses it": "RCPT", "refuses the null sender": "MAIL"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := shutsDown(t, "example.test")
			strangers := 0
			s.SetAnswer(w.untilBounced(func(step sink.Step) sink.Reply {
				if step.Verb == verb && (step.Address == "" || strings.HasPrefix(step.Address, "holdfast")) {
					strangers++
					return sink.Reply{Code: 421, Text: "nobody I know", Hangup: true}
				}
				return sink.Reply{}
			}))
			small := w.accept(testSender, "small@example.test")
			w.await("the destination is down", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_DOWN })
			w.acceptBody(testSender, strings.Repeat("x", 998)+"\r\n", "large@example.test")
			w.awaitState(small, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
			w.nodes["a"].stop()
			must(t, s.Close())
			if strangers != 1 {
				t.Errorf("it was asked for %d strangers", strangers)
			}
		})
	}
}

// A destination of all other domains has no stranger to ask for: it is asked for the
// recipient that every server has, and stays down for as long as it refuses MAIL.
func TestProbeWithoutAStranger(t *testing.T) {
	t.Parallel()
	w, s := shutsDown(t, relay.DefaultRoute)
	accept := func(text string) relay.MessageID {
		event, payload := w.acceptance("", text, "anna@example.test")
		event.GetMessageAccepted().Recipients[0].Domain = relay.DefaultRoute
		w.must(w.any(), event, payload)
		return relay.MessageID(event.GetMessageAccepted().MessageId)
	}
	small := accept("small\r\n")
	w.await("the destination is down", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_DOWN })
	large := accept(strings.Repeat("x", 998) + "\r\n")
	w.awaitState(large, 0, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	failed := w.health("dest").Failed
	w.await("the next probe", func() bool { return w.health("dest").Failed > failed })
	if n := w.log.count(func(e *pb.Event) bool { return e.GetDestinationRecovered() != nil }); n != 0 {
		t.Errorf("it has recovered %d times", n)
	}
	s.SetAnswer(nil)
	w.awaitState(small, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
}

// Nobody's destination is shown as down until it is back, and no longer.
func TestDestinationOutOfUseRecovers(t *testing.T) {
	t.Parallel()
	w, s := shutsDown(t, "example.test")
	id := w.accept("", "small@example.test")
	w.await("the destination is down", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_DOWN })
	elsewhere := w.sink(sink.Config{})
	w.route("example.test", "elsewhere", 5, elsewhere.Addr())
	w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
		Operation: &pb.Operation{Kind: pb.Operation_KIND_REDIRECT, Address: "small@example.test", By: "ann"},
		Targets:   []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}},
	}}}, nil)
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	failed := w.health("dest").Failed
	w.await("the next probe", func() bool { return w.health("dest").Failed > failed+1 })
	s.SetAnswer(nil)
	w.await("it has recovered", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_UP })
}

// What this side refuses says nothing of the host, be it a message or a call-out: no
// answer is noted, and a probe leaves the outage as it was.
func TestVerdictWithoutAnAnswer(t *testing.T) {
	outage := &pb.Failure{Cause: "deferred", Phase: "mail", Code: 421}
	local := &relay.Failure{Phase: relay.PhaseRcpt, Cause: relay.CauseRejected, Code: 550, Enhanced: "5.6.7"}
	for _, tt := range []struct {
		name            string
		probe, answered bool
		failure         *relay.Failure
		want            string
	}{
		{"refused here", false, false, local, "nothing"},
		{"refused here, as a probe", true, false, local, "goes on"},
		{"refused there", false, true, local, "answer"},
		{"refused there, as a probe", true, true, local, "answer, recovered"},
		{"unreadable, as a probe", true, false, &relay.Failure{Phase: relay.PhaseData, Err: smtpout.ErrBody}, "goes on"},
	} {
		for kind, judge := range map[string]func(*Scheduler, *queue, *attempt) verdict{
			"message": (*Scheduler).verdictOn, "call-out": (*Scheduler).verdictOnCallout,
		} {
			t.Run(kind+" "+tt.name, func(t *testing.T) {
				q := upQueue(20)
				q.record.Health.Failure = outage
				if tt.probe {
					q.record.Health.State = pb.DestinationHealth_STATE_DOWN
				}
				a := &attempt{probe: tt.probe, ended: base, result: smtpout.Result{
					Answered: tt.answered, Outcomes: []smtpout.Outcome{{Failure: tt.failure}},
				}}
				v := judge(fixed(base, 0.5), q, a)
				var got []string
				if !q.lastAnswer.IsZero() {
					got = append(got, "answer")
				}
				switch {
				case v.recovered:
					got = append(got, "recovered")
				case v.failed != nil && v.failed.Code == 421:
					got = append(got, "goes on")
				case v.failed != nil:
					got = append(got, v.failed.Error())
				}
				if got := cmp.Or(strings.Join(got, ", "), "nothing"); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
			})
		}
	}
}

// A recipient that is refused on this side doesn't speak for a host that fails the others.
func TestHostFailureBesideALocalRefusal(t *testing.T) {
	local := smtpout.Outcome{Failure: &relay.Failure{Phase: relay.PhaseRcpt, Code: 550, Enhanced: "5.6.7"}}
	closed := smtpout.Outcome{Failure: &relay.Failure{Phase: relay.PhaseMail, Cause: relay.CauseClosed}}
	for _, tt := range []struct {
		answered bool
		outcomes []smtpout.Outcome
		want     *relay.Failure
	}{
		{false, []smtpout.Outcome{local, closed}, closed.Failure},
		{false, []smtpout.Outcome{local}, nil},
		{true, []smtpout.Outcome{local, closed}, nil},
		{true, []smtpout.Outcome{closed}, closed.Failure},
	} {
		a := &attempt{result: smtpout.Result{Answered: tt.answered, Outcomes: tt.outcomes}}
		if got := a.hostFailure(); got != tt.want {
			t.Errorf("answered %v, %d outcomes: %v, want %v", tt.answered, len(tt.outcomes), got, tt.want)
		}
	}
}
