package delivery

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// acceptMarked files a message whose recipients but the last are marked.
func (w *world) acceptMarked(to ...string) relay.MessageID {
	w.t.Helper()
	event, body := w.acceptance(testSender, "Hello.\r\n", to...)
	for _, r := range event.GetMessageAccepted().Recipients[:len(to)-1] {
		r.Spam = true
	}
	w.must(w.any(), event, body)
	return relay.MessageID(event.GetMessageAccepted().MessageId)
}

// Refused with 5xx, marked mail is dropped; what isn't marked is returned, in a
// report that says nothing of the other.
func TestMarkedMailIsDroppedOnRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	senders := w.sendersAt()
	s := w.sink(sink.Config{Answer: sink.On(sink.Dot, sink.Reply{Code: 554, Text: "spam"})})
	w.route("example.test", "dest", 2, s.Addr())
	w.runAll()
	id := w.acceptMarked("spammed@example.test", "other@example.test")
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DROPPED)
	w.awaitState(id, 1, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
	w.awaitDelivered("origin", 1)
	if reports := senders.Stats().Committed; reports != 1 {
		t.Errorf("%d reports", reports)
	}
	if n := w.log.count(func(e *pb.Event) bool { return e.GetDropped() != nil }); n != 1 {
		t.Errorf("%d events drop it", n)
	}
}

// Deferred all the time, it is dropped at the shorter of policy and class.
func TestMarkedMailIsDroppedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, grey := weeks(t, "month")
		id := w.acceptMarked("spammed@example.test", "other@example.test")
		w.runAll()
		age := w.awaitEnd(id)
		if r := w.recipient(id, 0); r.State != pb.RecipientState_RECIPIENT_STATE_DROPPED || age < 5*24*time.Hour || age > 5*24*time.Hour+time.Hour {
			t.Errorf("%s at the age of %s", r.State, age)
		}
		if r := w.recipient(id, 1); r.State != pb.RecipientState_RECIPIENT_STATE_PENDING {
			t.Errorf("the recipient that isn't marked is %s", r.State)
		}
		grey.stop(w)
	})
}

// What is given up is said and counted to be dropped, returned or frozen once the log has
// taken it, and not before.
func TestEndsAreToldOnlyWhereTheLogTookThem(t *testing.T) {
	for name, tt := range map[string]struct {
		code    pb.EventResult_Code
		spam    bool
		report  bool
		reason  pb.Bounced_Reason
		status  string
		dropped float64
	}{
		"dropped":            {pb.EventResult_CODE_OK, true, false, pb.Bounced_REASON_REJECTED, "dropped", 1},
		"returned":           {pb.EventResult_CODE_OK, false, false, pb.Bounced_REASON_REJECTED, "bounced", 0},
		"expired":            {pb.EventResult_CODE_OK, false, false, pb.Bounced_REASON_EXPIRED, "expired", 0},
		"frozen":             {pb.EventResult_CODE_OK, false, true, pb.Bounced_REASON_REJECTED, "frozen", 0},
		"not dropped":        {pb.EventResult_CODE_STALE, true, false, pb.Bounced_REASON_REJECTED, `"not recorded"`, 0},
		"not returned":       {pb.EventResult_CODE_STALE, false, false, pb.Bounced_REASON_REJECTED, `"not recorded"`, 0},
		"not frozen":         {pb.EventResult_CODE_NOT_FOUND, false, true, pb.Bounced_REASON_REJECTED, `"not recorded"`, 0},
		"not expired either": {pb.EventResult_CODE_STALE, false, false, pb.Bounced_REASON_EXPIRED, `"not recorded"`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			w.route("example.test", "dest", 2, "127.0.0.1:1")
			s, _, id := w.idle(w.nodes["a"])
			s.cfg.Proposer = &proposals{code: tt.code}
			record := w.recipient(id, 0)
			record.Recipient.Spam = tt.spam
			a := &attempt{
				queue: "dest", id: id, message: &pb.MessageRecord{}, recipients: []*pb.RecipientRecord{record},
				grant: fsm.Grant{Claim: &pb.ClaimRef{}, Record: &pb.ClaimRecord{Recipients: []uint32{0}}},
			}
			if tt.report {
				a.message.ReportOn = id[:]
			}
			failure := &relay.Failure{Cause: relay.CauseRejected, Phase: relay.PhaseRcpt, Code: 550}
			s.giveUpAfter(a, []ended{{record: record, failure: failure}}, tt.reason)
			if line := " status=" + tt.status + " "; strings.Count(w.logs.String(), line) != 1 || strings.Count(w.logs.String(), "msg=attempt ") != 1 {
				t.Errorf("no line with %s in %s", line, w.logs.String())
			}
			counted := w.nodes["a"].counted(s.metrics.dropped.WithLabelValues("rejected"))
			if said := strings.Count(w.logs.String(), "msg=dropped "); counted != tt.dropped || float64(said) != tt.dropped {
				t.Errorf("%v counted and %d said to be dropped, want %v", counted, said, tt.dropped)
			}
		})
	}
}

// Nor is a destination said to have failed or recovered before that is so.
func TestHealthIsToldOnlyWhereTheLogTookIt(t *testing.T) {
	for name, v := range map[string]verdict{
		"destination failed":    {failed: &relay.Failure{Cause: relay.CauseRefused, Phase: relay.PhaseConnect}},
		"destination recovered": {recovered: true},
		"destination passed on": {failed: &relay.Failure{Cause: relay.CauseDeferred}, passedOn: true},
	} {
		for _, code := range []pb.EventResult_Code{pb.EventResult_CODE_OK, pb.EventResult_CODE_STALE} {
			w := newWorld(t, "a")
			w.route("example.test", "dest", 2, "127.0.0.1:1")
			s, _, _ := w.idle(w.nodes["a"])
			s.cfg.Proposer = &proposals{code: code}
			s.settleHealth(&attempt{queue: "dest"}, v)
			if told := strings.Contains(w.logs.String(), name); told != (code == pb.EventResult_CODE_OK) {
				t.Errorf("%s, %s: %s", name, code, w.logs.String())
			}
		}
	}
}
