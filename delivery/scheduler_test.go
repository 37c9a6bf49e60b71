package delivery

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// idle is a scheduler that no goroutine runs, with one message that is due.
func (w *world) idle(n *node) (s *Scheduler, q *queue, id relay.MessageID) {
	w.t.Helper()
	s, err := New(n.config())
	must(w.t, err)
	s.outcomes = w.ctx
	id = w.accept(testSender, "user@example.test")
	s.resync()
	n.state.TakeChanges()
	return s, s.queues["dest"], id
}

// behind is a cursor that has passed all there is.
func (w *world) behind() fsm.QueueKey {
	w.t.Helper()
	rows, err := w.observer().Waiting("dest", fsm.LaneFresh, nil, 1)
	must(w.t, err)
	return rows[0].Key.Behind()
}

// What the cursor has passed and the feed didn't tell of is found all the same.
func TestRescanFindsWhatWasMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	s, q, _ := w.idle(w.nodes["a"])
	l := &q.lanes[fsm.LaneFresh]
	l.cursor = w.behind()
	clear(s.dirty)
	s.rescan()
	if l.cursor != nil || !s.dirty["dest"] {
		t.Error("what was missed is still not looked at")
	}
	l.cursor = w.behind()
	s.rescan()
	if got := w.nodes["a"].counted(s.metrics.missed); got != 1 {
		t.Errorf("%v messages are counted as missed, want 1", got)
	}
}

func TestNothingWithoutALease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	n := w.nodes["a"]
	s, q, _ := w.idle(n)
	for _, leased := range []bool{false, true} {
		n.set(n.Incarnation(), leased)
		s.schedule(q)
		if q.proposed != leased {
			t.Errorf("without a lease: claims are proposed %t with lease %t", q.proposed, leased)
		}
		if q.proposed {
			s.finish(<-s.done)
			return
		}
	}
}

// Mail that is due before what the window has come to: the cursor goes back.
func TestNewMailBehindTheCursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	n := w.nodes["a"]
	s, q, id := w.idle(n)
	l := &q.lanes[fsm.LaneFresh]
	l.cursor = w.behind()
	w.must(w.any(), claimEvent(1, id, "dest", false, 0), nil)
	w.must(w.any(), &pb.Event{Kind: &pb.Event_ClaimsReleased{ClaimsReleased: &pb.ClaimsReleased{
		Claims: []*pb.ClaimsReleased_Claim{{
			Claim: &pb.ClaimRef{Incarnation: w.any(), Attempt: 1}, MessageId: id[:], Recipients: []uint32{0},
		}},
	}}, Time: 1}, nil)
	s.absorb(n.state.TakeChanges())
	rows, err := n.state.Waiting("dest", fsm.LaneFresh, l.cursor, 1)
	must(t, err)
	if len(rows) != 1 || rows[0].ID != id {
		t.Errorf("a message that became due behind the cursor is missed: %v", rows)
	}
}

func TestCursorIsReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	s, q, _ := w.idle(w.nodes["a"])
	l := &q.lanes[fsm.LaneFresh]
	l.cursor, q.owned = w.behind(), false
	s.refresh("dest")
	if l.cursor != nil || !q.owned {
		t.Error("the cursor outlasts a change of ownership")
	}
	l.cursor = w.behind()
	s.resync()
	if l.cursor != nil {
		t.Error("the cursor outlasts a state that was replaced")
	}
}

// The claims that another node has left from before take slots of the owner.
func TestForeignClaimsTakeSlots(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.route("example.test", "dest", 3, "127.0.0.1:1")
	owner := w.owner("dest")
	other := w.nodes["a"]
	if owner == other {
		other = w.nodes["b"]
	}
	id := w.accept(testSender, "user@example.test")
	w.must(owner.Incarnation(), claimEvent(1, id, "dest", false, 0), nil)
	s, err := New(other.config())
	must(t, err)
	s.resync()
	record, _ := other.state.Destination("dest")
	q := newQueue("dest", record)
	q.limit = 3
	if got := s.freeSlots(q, fsm.LaneFresh); got != 2 {
		t.Errorf("%d free slots of 3 beside another node's claim, want 2", got)
	}
	// One that hangs doesn't keep all mail waiting for as long.
	q.limit = 1
	q.ownedSince = w.clock.now()
	if got := s.freeSlots(q, fsm.LaneFresh); got != 0 {
		t.Errorf("%d free slots right after a change of owner, want none", got)
	}
	q.ownedSince = q.ownedSince.Add(-recentSuccess)
	if got := s.freeSlots(q, fsm.LaneFresh); got != 1 {
		t.Errorf("%d free slots at a concurrency of 1 beside another node's claim, want 1", got)
	}
}

// A claim that holds and was never granted here came with a state that was installed
// while it was proposed: it is known to nobody, and so given back.
func TestClaimOfAnInstalledStateIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	n := w.nodes["a"]
	s, q, id := w.idle(n)
	w.must(n.Incarnation(), claimEvent(7, id, "dest", false, 0), nil)
	n.state.TakeChanges() // the grant is lost with the state that told of it
	q.claim(7, fsm.LaneFresh)
	q.proposed = true
	s.claimsAnswered(claimsProposed{queue: "dest", incarnation: s.incarnation, attempts: []uint64{7}})
	if len(q.claiming) != 0 || q.outstanding().all() != 0 || q.probing() {
		t.Errorf("%v is still waited for", q.claiming)
	}
}

// wordShy takes no outcome that has words in it.
type wordShy struct{ *node }

func (n wordShy) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	words := ""
	for _, r := range event.GetDelivered().GetRecipients() {
		words += r.Text
	}
	for _, r := range event.GetBounced().GetRecipients() {
		words += r.Failure.GetHost()
	}
	if words != "" {
		return &pb.EventResult{Code: pb.EventResult_CODE_INVALID, Text: "too large"}, 0, nil
	}
	return n.node.Propose(ctx, event, payload)
}

// An outcome that the log doesn't take ends the attempt all the same, once.
func TestOutcomeThatTheLogDoesNotTake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	n := w.nodes["a"]
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		if step.Verb == "RCPT" && strings.Contains(step.Args, "nobody@") {
			return sink.Reply{Code: 550, Text: "no such user"}
		}
		return sink.Reply{}
	}})
	w.route("example.test", "dest", 2, s.Addr())
	id := w.accept("", "user@example.test", "nobody@example.test")
	config := n.config()
	config.Proposer = wordShy{n}
	scheduler, err := New(config)
	must(t, err)
	n.runWith(scheduler)
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	if got := w.awaitState(id, 1, pb.RecipientState_RECIPIENT_STATE_BOUNCED).LastError; got.GetCode() != 550 {
		t.Errorf("the failure is %v", got)
	}
	w.checkOnce([]relay.MessageID{id}, s)
}

// forgetful loses its way into the log twice.
type forgetful struct {
	*node
	lost atomic.Int32
}

func (n *forgetful) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	if event.GetDelivered() != nil && n.lost.Add(1) <= 2 {
		return nil, 0, errEnded
	}
	return n.node.Propose(ctx, event, payload)
}

// An outcome that doesn't come into the log at once is proposed again: without
// it the message would be sent again.
func TestOutcomeIsProposedUntilItIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.timing.Reconcile = 50 * time.Millisecond
	n := w.nodes["a"]
	s := w.sink(sink.Config{})
	w.route("example.test", "dest", 2, s.Addr())
	id := w.accept(testSender, "user@example.test")
	config := n.config()
	proposer := &forgetful{node: n}
	config.Proposer = proposer
	scheduler, err := New(config)
	must(t, err)
	n.runWith(scheduler)
	w.awaitDelivered("dest", 1)
	w.checkOnce([]relay.MessageID{id}, s)
	if lost := proposer.lost.Load(); lost != 3 {
		t.Errorf("proposed %d times, want 3", lost)
	}
}

// proposals takes events in place of the log, which says of each what it is told to.
type proposals struct {
	code   pb.EventResult_Code
	events []*pb.Event
}

func (p *proposals) Propose(_ context.Context, event *pb.Event, _ []byte) (*pb.EventResult, uint64, error) {
	p.events = append(p.events, event)
	return &pb.EventResult{Code: p.code}, 0, nil
}

// Where one lane can't be read, what another gave is proposed all the same: it is noted
// as claimed, and nobody would look at it again.
func TestClaimsOfLanesThatCouldBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.route("example.test", "dest", 2, "127.0.0.1:1")
	n := w.nodes["a"]
	s, q, id := w.idle(n)
	taken := &proposals{}
	s.cfg.Proposer = taken
	delete(w.nodes, "a") // its state is closed here
	looks := 0
	s.cfg.Now = func() time.Time {
		if looks++; looks == 2 { // the first lane was read, the others weren't
			must(t, n.state.Close())
		}
		return w.clock.now()
	}
	s.claimDue(q)
	if len(q.claiming) != 1 {
		t.Fatalf("claims %v, logs %s", q.claiming, w.logs.String())
	}
	if !q.proposed {
		t.Fatal("what is noted as claimed isn't proposed")
	}
	<-s.done
	claims := taken.events[0].GetAttemptStarted().GetClaims()
	if len(claims) != 1 || relay.MessageID(claims[0].MessageId) != id {
		t.Errorf("proposed: %v", claims)
	}
	if !strings.Contains(w.logs.String(), "read queue") {
		t.Error("every lane could be read")
	}
}
