package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// idleSession is a session of a node with a lease, in which nothing is sent.
func idleSession(t *testing.T) *session {
	c := &Cluster{log: testLogger(t), metrics: newMetrics(prometheus.NewRegistry()), cfg: Config{Timing: testTiming(), Monotonic: bootTime}}
	c.lease.init()
	c.lease.renew(0, bootTime()+time.Hour, 0)
	s := &session{c: c, inactive: make(chan struct{}), cancel: func() {}, next: 1, lowest: 1, open: map[uint64]*proposal{}}
	for i := range s.lanes {
		s.lanes[i].number, s.lanes[i].wake = i, make(chan struct{}, 1)
	}
	return s
}

// Whoever proposed hears of the end when there is no lease any more: by then
// another node may have taken over what this one had.
func TestLeaseEndsBeforeItsProposersKnow(t *testing.T) {
	for what, end := range map[string]func(*session){
		"declared down": (*session).end,
		"the answer of an entry": func(s *session) {
			batch, _ := s.take(&s.lanes[laneControl])
			s.settle(&s.lanes[laneControl], batch, outcome{kind: outcomeApplied, applied: fsm.Applied{
				Results: []*pb.EventResult{{Code: pb.EventResult_CODE_NOT_ACTIVE}},
			}})
		},
	} {
		s := idleSession(t)
		told := make(chan time.Duration, 1) // until when there is a lease then
		outcome := make(chan error, 1)
		go func() {
			event := &pb.Event{Kind: &pb.Event_VerifyMarked{VerifyMarked: &pb.VerifyMarked{Nonce: []byte("x")}}}
			_, _, err := s.propose(t.Context(), laneControl, event, nil, func() { told <- s.c.lease.until() })
			outcome <- err
		}()
		<-s.lanes[laneControl].wake
		end(s)
		if until := <-told; until != 0 {
			t.Errorf("%s: a proposer is told while there is a lease until %s", what, until)
		}
		if err := <-outcome; !errors.Is(err, ErrIncarnationEnded) {
			t.Errorf("%s: the proposal came to %v", what, err)
		}
		if refusal := s.takeLease(bootTime(), 0); refusal == "" || s.c.lease.until() != 0 {
			t.Errorf("%s: a grant that comes later is a lease: %q", what, refusal)
		}
	}
}

// A grant that was on its way for longer than a lease is none, and the node says so.
func TestGrantThatComesTooLate(t *testing.T) {
	s := idleSession(t)
	s.c.lease.drop()
	lease := s.c.cfg.Timing.Lease
	if refusal := s.takeLease(bootTime()-lease, 7); refusal == "" || s.c.lease.until() != 0 {
		t.Errorf("a lease that was over when it came: %q", refusal)
	}
	if refusal := s.takeLease(bootTime(), 7); refusal != "" || s.c.lease.until() == 0 {
		t.Errorf("a lease in time: %q", refusal)
	}
}

// A node without a lease says why, also where the last ping brought one.
func TestThereIsAReasonForNoLease(t *testing.T) {
	s := idleSession(t)
	s.c.denied("")
	if why := s.c.whyNoLease(); why != "" {
		t.Errorf("a node with a lease says why it has none: %q", why)
	}
	s.c.lease.drop()
	if why := s.c.whyNoLease(); why == "" {
		t.Error("a node without a lease doesn't say why")
	}
}
