package delivery

import (
	"context"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// watchedProposer is a node's, which tells of each event that is in the log by now; what
// that returns is what the proposer learns of it.
type watchedProposer struct {
	*node
	proposed func(*pb.Event) error
}

func (p watchedProposer) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	result, index, err := p.node.Propose(ctx, event, payload)
	if err == nil {
		err = p.proposed(event)
	}
	return result, index, err
}

// hand is a Scheduler that does what a test calls.
func (n *node) hand(proposed func(*pb.Event) error) *Scheduler {
	n.w.t.Helper()
	config := n.config()
	config.Proposer = watchedProposer{n, proposed}
	s, err := New(config)
	must(n.w.t, err)
	s.outcomes = n.w.ctx
	return s
}

// A longer retention saves what hasn't ended yet, also in the middle of a round.
func TestPolicyChangesWhileMailExpires(t *testing.T) {
	w := newWorld(t, "a")
	w.route("example.test", "dest", 5, "127.0.0.1:1")
	w.acceptMany(3, "example.test")
	w.must(w.any(), destinationFailed(w), nil)
	w.must(w.any(), destinationFailed(w), nil)
	w.clock.advance(6 * 24 * time.Hour)
	returned := 0
	s := w.nodes["a"].hand(func(e *pb.Event) error {
		if e.GetBounced() != nil {
			returned++
			w.follow("example.test", "dest", "month")
		}
		return nil
	})
	must(t, s.expireDomain(w.ctx, "example.test"))
	if returned != 1 {
		t.Errorf("%d were returned, one before the policy was changed", returned)
	}
}

func destinationFailed(w *world) *pb.Event {
	health := w.health("dest")
	return &pb.Event{Kind: &pb.Event_DestinationFailed{DestinationFailed: &pb.DestinationFailed{
		Name: "dest", Probes: health.GetProbes(), Node: "a", NextProbe: w.clock.now().Add(time.Hour).UnixNano(),
		Failure: &pb.Failure{Cause: "refused", Phase: "connect"},
	}}}
}

// What expiry freezes, and an operator thaws before the node that froze it learns of it,
// isn't frozen once more by that node's next incarnation.
func TestEndWithoutAClaimIsProposedOnce(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.route("example.test", "dest", 5, "127.0.0.1:1")
	id := w.accept("", "user@example.test")
	n := w.nodes["a"]
	frozen := 0
	s := n.hand(func(e *pb.Event) error {
		if e.GetFrozen() == nil {
			return nil
		}
		if frozen++; frozen > 1 {
			return nil
		}
		n.down()
		w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
			Operation: &pb.Operation{Kind: pb.Operation_KIND_THAW, By: "ann"},
			Targets:   []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}},
		}}}, nil)
		n.up()
		return errEnded
	})
	taken := s.freeze(id, nil, []ended{{number: 0, record: w.recipient(id, 0)}}, nil)
	if r := w.recipient(id, 0); r.State != pb.RecipientState_RECIPIENT_STATE_PENDING || frozen != 1 || taken {
		t.Errorf("frozen again: %d times, it is %s now", frozen, r.State)
	}
}

// What expires in an outage was never tried: its report says why it waited, and not
// that it may have arrived, as the message of the probe may have.
func TestExpiredInAnOutage(t *testing.T) {
	w := newWorld(t, "a")
	w.route("example.test", "dest", 5, "127.0.0.1:1")
	id := w.accept(testSender, "user@example.test")
	for range 2 {
		failed := destinationFailed(w)
		failed.GetDestinationFailed().Failure = &pb.Failure{Cause: "timeout", Phase: "mail", Text: "no answer", InDoubt: true}
		w.must(w.any(), failed, nil)
	}
	w.clock.advance(6 * 24 * time.Hour)
	var why *pb.Failure
	s := w.nodes["a"].hand(func(e *pb.Event) error {
		if b := e.GetBounced(); b != nil {
			why = b.Recipients[0].Failure
		}
		return nil
	})
	must(t, s.expireDomain(w.ctx, "example.test"))
	r := w.recipient(id, 0)
	if r.State != pb.RecipientState_RECIPIENT_STATE_BOUNCED || r.InDoubt != 0 || why.GetCause() != "timeout" || why.GetText() != "no answer" || why.GetInDoubt() {
		t.Errorf("%v, for %v", r, why)
	}
}
