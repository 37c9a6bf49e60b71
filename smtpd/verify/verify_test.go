package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// world is what a Verifier sees of a node.
type world struct {
	listed   map[string]bool
	verified map[string]*pb.VerifiedRecord // by local part; "" is the domain
	health   *pb.DestinationHealth
	suspend  *pb.Suspension
	broken   error // of the state

	verdict pb.Verdict
	failure *pb.Failure
	refuses error
	asked   []string
}

func (w *world) Listed(_, local string) (bool, error) { return w.listed[local], w.broken }

func (w *world) Verified(_, local string, _ time.Time) (*pb.VerifiedRecord, error) {
	return w.verified[local], w.broken
}

func (w *world) Destination(string) (*pb.DestinationRecord, bool) {
	return &pb.DestinationRecord{Health: w.health, Suspended: w.suspend}, true
}

func (w *world) ask(_ context.Context, destination, address string, anew bool) (pb.Verdict, *pb.Failure, error) {
	if anew {
		address += " anew"
	}
	w.asked = append(w.asked, destination+" "+address)
	return w.verdict, w.failure, w.refuses
}

var (
	up     = &pb.DestinationHealth{State: pb.DestinationHealth_STATE_UP}
	sender = netip.MustParseAddr("192.0.2.1")
)

func down(next time.Time) *pb.DestinationHealth {
	return &pb.DestinationHealth{State: pb.DestinationHealth_STATE_DOWN, NextProbe: next.UnixNano()}
}

func (w *world) verifier() *Verifier {
	return New(Config{State: w, Ask: w.ask, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
}

func known(verdict pb.Verdict, failure *pb.Failure) *pb.VerifiedRecord {
	return &pb.VerifiedRecord{Verdict: verdict, Failure: failure}
}

// What RCPT is answered in every situation that docs/operate.md has a row for.
func TestAnswers(t *testing.T) {
	const taken = "taken"
	refusal := &pb.Failure{Code: 550, Enhanced: "5.1.1", Text: "no such\r\nuser é"}
	later, earlier := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct {
		mode   pb.Verify
		world  world
		want   string // how the reply begins
		reason pb.CheckRecipientResponse_Reason
		asks   bool
	}{
		"off": {pb.Verify_VERIFY_OFF, world{health: up}, taken, pb.CheckRecipientResponse_REASON_OFF, false},
		"a domain from before": {pb.Verify_VERIFY_UNSPECIFIED, world{health: up}, taken,
			pb.CheckRecipientResponse_REASON_OFF, false},
		"listed": {pb.Verify_VERIFY_LISTED, world{health: down(later), listed: map[string]bool{"anna": true}}, taken,
			pb.CheckRecipientResponse_REASON_LISTED, false},
		"not listed": {pb.Verify_VERIFY_LISTED, world{health: up}, "550 5.1.1 no such recipient",
			pb.CheckRecipientResponse_REASON_NOT_LISTED, false},
		"listed beside call-outs": {pb.Verify_VERIFY_CALLOUT, world{health: down(later), listed: map[string]bool{"anna": true}}, taken,
			pb.CheckRecipientResponse_REASON_LISTED, false},
		"known, up": {pb.Verify_VERIFY_CALLOUT, world{health: up, verified: map[string]*pb.VerifiedRecord{"anna": known(pb.Verdict_VERDICT_VALID, nil)}},
			taken, pb.CheckRecipientResponse_REASON_VALID, false},
		"known, down": {pb.Verify_VERIFY_CALLOUT, world{health: down(later), verified: map[string]*pb.VerifiedRecord{"anna": known(pb.Verdict_VERDICT_VALID, nil)}},
			taken, pb.CheckRecipientResponse_REASON_VALID, false},
		"known as refused": {pb.Verify_VERIFY_CALLOUT, world{health: down(later), verified: map[string]*pb.VerifiedRecord{"anna": known(pb.Verdict_VERDICT_INVALID, refusal)}},
			"550 5.1.1 no such recipient here, its mail server says: 550 5.1.1 no such user ?", pb.CheckRecipientResponse_REASON_INVALID, false},
		"unknown, taken": {pb.Verify_VERIFY_CALLOUT, world{health: up, verdict: pb.Verdict_VERDICT_VALID}, taken,
			pb.CheckRecipientResponse_REASON_VALID, true},
		"unknown, refused": {pb.Verify_VERIFY_CALLOUT, world{health: up, verdict: pb.Verdict_VERDICT_INVALID, failure: refusal},
			"550 5.1.1 ", pb.CheckRecipientResponse_REASON_INVALID, true},
		"unknown, no answer": {pb.Verify_VERIFY_CALLOUT, world{health: up, refuses: errors.New("greylisted by host.internal")},
			"450 4.4.3 recipient can't be verified now, try again later: its mail server can't say now", pb.CheckRecipientResponse_REASON_UNKNOWN, true},
		"unknown, down": {pb.Verify_VERIFY_CALLOUT, world{health: down(later)},
			"450 4.4.3 ", pb.CheckRecipientResponse_REASON_UNKNOWN, false},
		"unknown, down, probe due": {pb.Verify_VERIFY_CALLOUT, world{health: down(earlier), verdict: pb.Verdict_VERDICT_VALID},
			taken, pb.CheckRecipientResponse_REASON_VALID, true},
		"unknown, suspended": {pb.Verify_VERIFY_CALLOUT, world{health: up, suspend: &pb.Suspension{}},
			"450 4.4.3 ", pb.CheckRecipientResponse_REASON_UNKNOWN, false},
		"catch-all, up": {pb.Verify_VERIFY_CALLOUT, world{health: up, verified: map[string]*pb.VerifiedRecord{"": known(pb.Verdict_VERDICT_ACCEPTS_ANY, nil)}},
			taken, pb.CheckRecipientResponse_REASON_ACCEPTS_ANY, false},
		"catch-all, down": {pb.Verify_VERIFY_CALLOUT, world{health: down(later), verified: map[string]*pb.VerifiedRecord{"": known(pb.Verdict_VERDICT_ACCEPTS_ANY, nil)}},
			"450 4.4.3 ", pb.CheckRecipientResponse_REASON_UNKNOWN, false},
		"catch-all found out": {pb.Verify_VERIFY_CALLOUT, world{health: up, verdict: pb.Verdict_VERDICT_ACCEPTS_ANY}, taken,
			pb.CheckRecipientResponse_REASON_ACCEPTS_ANY, true},
		"catch-all that refused it before": {pb.Verify_VERIFY_CALLOUT, world{health: up, verified: map[string]*pb.VerifiedRecord{
			"": known(pb.Verdict_VERDICT_ACCEPTS_ANY, nil), "anna": known(pb.Verdict_VERDICT_INVALID, refusal),
		}}, taken, pb.CheckRecipientResponse_REASON_ACCEPTS_ANY, false},
		"no catch-all": {pb.Verify_VERIFY_CALLOUT, world{health: up, verdict: pb.Verdict_VERDICT_VALID,
			verified: map[string]*pb.VerifiedRecord{"": known(pb.Verdict_VERDICT_SELECTIVE, nil)}}, taken,
			pb.CheckRecipientResponse_REASON_VALID, true},
		"a state that can't be read": {pb.Verify_VERIFY_LISTED, world{health: up, broken: errors.New("broken")},
			"450 4.4.3 ", pb.CheckRecipientResponse_REASON_UNKNOWN, false},
	} {
		t.Run(name, func(t *testing.T) {
			domain := &pb.DomainConfig{Name: "example.org", Destination: "office", Verify: tt.mode}
			a := tt.world.verifier().Recipient(t.Context(), sender, domain, "anna@example.org")
			if tt.want == taken != (a.Reply == nil) || a.Reply != nil && !strings.HasPrefix(a.Reply.String(), tt.want) || a.Reason != tt.reason {
				t.Errorf("answered %v, %v", a.Reply, a.Reason)
			}
			if asked := len(tt.world.asked) > 0; asked != tt.asks {
				t.Errorf("asked %q", tt.world.asked)
			}
		})
	}
}

// A mailbox that was made a moment ago: an operator has the destination asked.
func TestCheckAnew(t *testing.T) {
	w := &world{health: up, verdict: pb.Verdict_VERDICT_VALID, verified: map[string]*pb.VerifiedRecord{
		"anna": known(pb.Verdict_VERDICT_INVALID, &pb.Failure{Code: 550, Text: "no"}),
	}}
	domain := &pb.DomainConfig{Name: "example.org", Destination: "office", Verify: pb.Verify_VERIFY_CALLOUT}
	if a := w.verifier().Check(t.Context(), "root", domain, "anna@example.org", false); a.Reason != pb.CheckRecipientResponse_REASON_INVALID {
		t.Errorf("known: %v", a.Reason)
	}
	if a := w.verifier().Check(t.Context(), "root", domain, "anna@example.org", true); a.Reason != pb.CheckRecipientResponse_REASON_VALID {
		t.Errorf("asked anew: %v", a.Reason)
	}
	if len(w.asked) != 1 || w.asked[0] != "office anna@example.org anew" {
		t.Errorf("asked %q", w.asked)
	}
	// What can't be asked anew stays what it was.
	w.refuses = errors.New("greylisted")
	if a := w.verifier().Check(t.Context(), "root", domain, "anna@example.org", true); a.Reason != pb.CheckRecipientResponse_REASON_INVALID || a.Failure == nil {
		t.Errorf("asked anew in vain: %v, %v", a.Reason, a.Failure)
	}
	w.health = down(time.Now().Add(time.Hour))
	if a := w.verifier().Check(t.Context(), "root", domain, "anna@example.org", true); a.Reason != pb.CheckRecipientResponse_REASON_INVALID || a.Failure == nil {
		t.Errorf("asked anew while it is down: %v, %v", a.Reason, a.Failure)
	}
}

// A client that waits for a destination that says nothing hears so in time.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{health: up}
		v := New(Config{State: w, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
			Ask: func(ctx context.Context, _, _ string, _ bool) (pb.Verdict, *pb.Failure, error) {
				<-ctx.Done()
				return 0, nil, context.Cause(ctx)
			}})
		began := time.Now()
		domain := &pb.DomainConfig{Name: "example.org", Destination: "office", Verify: pb.Verify_VERIFY_CALLOUT}
		a := v.Recipient(t.Context(), sender, domain, "anna@example.org")
		if a.Reply == nil || a.Reply.Code != 450 || !strings.Contains(a.Reply.Text, "not answered yet") {
			t.Errorf("answered %v", a.Reply)
		}
		if took := time.Since(began); took != defaultPatience {
			t.Errorf("after %v", took)
		}
	})
}

// One client can't have destinations asked without end; others are not in its way, and
// neither is what is known.
func TestClientsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{health: up, verdict: pb.Verdict_VERDICT_INVALID, failure: &pb.Failure{Code: 550, Text: "no"},
			listed: map[string]bool{"anna": true}}
		v := w.verifier()
		domain := &pb.DomainConfig{Name: "example.org", Destination: "office", Verify: pb.Verify_VERIFY_CALLOUT}
		rcpt := func(from string) *relay.Reply {
			return v.Recipient(t.Context(), netip.MustParseAddr(from), domain, "guess@example.org").Reply
		}
		for i := range askingBurst {
			if r := rcpt("192.0.2.1"); r.Code != 550 {
				t.Fatalf("question %d: %v", i, r)
			}
		}
		if r := rcpt("192.0.2.1"); r.Code != 450 {
			t.Errorf("beyond the burst: %v", r)
		}
		if r := rcpt("192.0.2.2"); r.Code != 550 {
			t.Errorf("another client: %v", r)
		}
		if r := v.Recipient(t.Context(), sender, domain, "anna@example.org").Reply; r != nil {
			t.Errorf("what is known: %v", r)
		}
		<-time.After(time.Second)
		for range int(askingRate) {
			if r := rcpt("192.0.2.1"); r.Code != 550 {
				t.Errorf("a second later: %v", r)
			}
		}
		if r := rcpt("192.0.2.1"); r.Code != 450 {
			t.Errorf("a second later, beyond: %v", r)
		}
	})
}

// Questions that wait for slow destinations count until they are answered, and
// clients that ask for nothing are forgotten.
func TestClientsAtOnce(t *testing.T) {
	now := time.Now()
	c := newClients(func() time.Time { return now })
	var leave []func()
	for range askingAtOnce {
		l, ok := c.enter(sender.String())
		if !ok {
			t.Fatal("refused within its share")
		}
		leave = append(leave, l)
	}
	if _, ok := c.enter(sender.String()); ok {
		t.Error("one more than its share")
	}
	leave[0]()
	if _, ok := c.enter(sender.String()); !ok {
		t.Error("refused with a place free")
	}
	for i := range sweepAbove {
		l, ok := c.enter(fmt.Sprint("client ", i))
		if !ok {
			t.Fatal("refused another client")
		}
		l()
	}
	now = now.Add(time.Minute)
	if _, ok := c.enter("another"); !ok {
		t.Error("refused")
	}
	if len(c.each) != 2 {
		t.Errorf("%d clients are remembered, want the one that waits and the new one", len(c.each))
	}
}
