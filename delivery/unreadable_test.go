package delivery

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// acceptDamaged files a message whose body is damaged on the disks of some nodes.
func (w *world) acceptDamaged(to string, on ...*node) relay.MessageID {
	w.t.Helper()
	event, body := w.acceptance("", "Hello.\r\n", to)
	m, incarnation := event.GetMessageAccepted(), w.any()
	damaged := bytes.Clone(body)
	damaged[len(damaged)-3] ^= 1
	piece := &pb.Event{
		Time: w.clock.now().UnixNano(),
		Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{MessageId: m.MessageId}},
	}
	result, _ := w.log.proposeTo(incarnation, piece, body, func(state *fsm.State) []byte {
		if slices.ContainsFunc(on, func(n *node) bool { return n.state == state }) {
			return damaged
		}
		return body
	})
	if result.Code != pb.EventResult_CODE_OK {
		w.t.Fatalf("content: %v", result)
	}
	m.Content.Pieces = 1
	w.must(incarnation, event, nil)
	return relay.MessageID(m.MessageId)
}

func (w *world) awaitUnreadable(id relay.MessageID) {
	w.t.Helper()
	w.await("an attempt can't read the body", func() bool { return lastUnreadable(w.recipient(id, 0)) })
}

// A body that is damaged on the owner's disk alone is delivered by another node: no
// attempt counts, nobody blames the host, and the damage is known.
func TestAnotherNodeDeliversWhatTheOwnerCannotRead(t *testing.T) {
	for name, offer := range map[string][]string{
		"MAIL is answered first": {"PIPELINING"}, "the host is told nothing": {"PIPELINING", "CHUNKING"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", "b", "c")
			s := w.sink(sink.Config{Offer: offer})
			w.route("example.test", "dest", 5, s.Addr())
			owner := w.owner("dest")
			id := w.acceptDamaged("user@example.test", owner)
			w.runAll()
			w.awaitDelivered("dest", 1)
			w.checkOnce([]relay.MessageID{id}, s)
			for _, m := range s.Messages() {
				if m.Committed && !strings.HasSuffix(string(m.Data), "Hello.\r\n") {
					t.Errorf("delivered: %q", m.Data)
				}
			}
			if r := w.recipient(id, 0); r.Attempts != 1 {
				t.Errorf("%d attempts are counted", r.Attempts)
			}
			if h := w.health("dest"); h.State != pb.DestinationHealth_STATE_UP || w.owner("dest") == owner {
				t.Errorf("destination %s, at node %s", h.State, w.owner("dest").name)
			}
			failed := slices.DeleteFunc(w.history(id), func(r *pb.HistoryRecord) bool { return r.Failure == nil })
			if len(failed) != 1 || !wasUnreadable(failed[0].Failure) || failed[0].Attempt.Node != owner.name {
				t.Errorf("failures: %v", failed)
			}
			if line := fmt.Sprintf(`level=ERROR msg="the body of a message can't be read here" id=%s`, id); !strings.Contains(w.logs.String(), line) {
				t.Errorf("no line %s", line)
			}
			for _, n := range w.nodes {
				if damages := n.state.RowCheck().GetDamages(); (len(damages) == 1) != (n == owner) {
					t.Errorf("node %s knows of %v", n.name, damages)
				}
			}
		})
	}
}

// A message doesn't end by its age while a node is away that may have it whole; that
// one delivers it when it is back. Where all nodes have tried, it ends.
func TestUnreadableEndsOnlyWhenEveryNodeHasTried(t *testing.T) {
	for name, tt := range map[string]struct{ nodes []string }{
		"one node": {[]string{"a"}}, "another is away": {[]string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.nodes...)
			s := w.sink(sink.Config{})
			w.route("example.test", "dest", 5, s.Addr())
			here, away := w.nodes["a"], w.nodes["b"]
			if away != nil {
				away.down()
			}
			id := w.acceptDamaged("user@example.test", here)
			w.clock.advance(5*24*time.Hour - time.Minute)
			here.run()
			w.awaitUnreadable(id)
			here.stop()
			w.clock.advance(2 * time.Minute) // past its retention, before the next attempt
			scheduler, err := New(here.config())
			must(t, err)
			view, err := here.state.View()
			must(t, err)
			found, err := scheduler.copiesOf(view, id)
			view.Close()
			must(t, err)
			if found.tried != 1 || found.passed.IsZero() || found.somewhere != (away != nil) || found.elsewhere {
				t.Errorf("copies: %+v", found)
			}
			_, expired, err := scheduler.expired([]fsm.OpenRecipient{{ID: id}})
			must(t, err)
			if away == nil {
				if len(expired) != 1 {
					t.Error("it never ends")
				}
				return
			}
			if len(expired) != 0 {
				t.Error("it ends while another node may have it whole")
			}
			away.up()
			away.eligible()
			w.clock.advance(unreadableAgain)
			w.runAll()
			w.awaitDelivered("dest", 1)
			w.checkOnce([]relay.MessageID{id}, s)
		})
	}
}

// Where only this node reaches the host, a message that it can't read comes back to it:
// the destination isn't passed on again at once.
func TestPassedOnOnceAnHour(t *testing.T) {
	unreadable := &relay.Failure{Phase: relay.PhaseData, Cause: relay.CauseDeferred, Own: true, Err: smtpout.ErrBody}
	for passed, want := range map[time.Time]bool{
		{}: true, base.Add(-time.Minute): false, base.Add(-passAgain): true,
	} {
		a := &attempt{
			ended: base, copies: copies{somewhere: true, elsewhere: true, passed: passed},
			result: smtpout.Result{Outcomes: []smtpout.Outcome{{Failure: unreadable}}},
		}
		if v := fixed(base, 0.5).passOn(upQueue(1), a, verdict{}); v.passedOn != want {
			t.Errorf("passed on at %v: %+v", passed, v)
		}
	}
}

// What one transaction has delivered is told, though the message has ended before the
// next one.
func TestMessageEndsBetweenTransactions(t *testing.T) {
	gone := &relay.Failure{Phase: relay.PhaseData, Err: fmt.Errorf("%w: %w", smtpout.ErrBody, fsm.ErrNotFound)}
	for name, tt := range map[string]struct {
		outcome smtpout.Outcome
		skipped bool
	}{
		"nothing was sent": {smtpout.Outcome{Failure: gone}, true},
		"one was taken":    {smtpout.Outcome{Reply: relay.Reply{Code: 250}}, false},
		"one is in doubt":  {smtpout.Outcome{Failure: &relay.Failure{Phase: relay.PhaseDot, InDoubt: true}}, false},
	} {
		a := &attempt{result: smtpout.Result{Outcomes: []smtpout.Outcome{tt.outcome, {Failure: gone}}}}
		fixed(base, 0.5).lookIntoBody(a)
		if a.skipped != tt.skipped {
			t.Errorf("%s: skipped %v", name, a.skipped)
		}
	}
}

// What nobody can read is no probe as long as there is another, and keeps no
// destination down: one is probed without a message then.
func TestUnreadableMessageIsTheLastToProbeWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	s := w.sink(sink.Config{})
	w.route("example.test", "dest", 5, s.Addr())
	id := w.acceptDamaged("user@example.test", w.nodes["a"], w.nodes["b"])
	w.runAll()
	w.await("both nodes have tried", func() bool {
		return w.log.count(func(e *pb.Event) bool { return e.GetAttemptFailed() != nil }) == 2
	})
	w.await("the destination is up", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_UP })
	if n := w.log.count(func(e *pb.Event) bool { return e.GetDestinationFailed() != nil }); n != 1 {
		t.Errorf("the destination was passed on %d times", n)
	}
	if w.recipient(id, 0).Attempts != 0 || s.Stats().Committed != 0 {
		t.Errorf("recipient %v, %d delivered", w.recipient(id, 0), s.Stats().Committed)
	}
}
