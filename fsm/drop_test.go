package fsm

import (
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// acceptMarked files a message whose first recipient is marked.
func (w *world) acceptMarked(to ...string) *pb.Event {
	w.t.Helper()
	event := accepted(w.newID(), testBody, "boss@example.test", to...)
	event.GetMessageAccepted().Recipients[0].Spam = true
	w.must(1, event, testBody)
	return event
}

func TestMarkedMailIsDropped(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := [16]byte(w.acceptMarked("one@example.test", "two@example.test").GetMessageAccepted().MessageId)
	w.must(1, claimOf(1, id, 0, 1), nil)
	if r := w.fold(1, dropped(ref(1, 1), id, 0, 1), nil); r.Code != pb.EventResult_CODE_INVALID || !strings.Contains(r.Text, "not marked") {
		t.Errorf("an unmarked recipient: %v %s", r.Code, r.Text)
	}
	if r := w.fold(1, dropped(ref(1, 9), id, 0), nil); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("another claim: %v %s", r.Code, r.Text)
	}
	w.must(1, dropped(ref(1, 1), id, 0), nil)
	r := w.recipientOf(id, 0)
	if r.State != pb.RecipientState_RECIPIENT_STATE_DROPPED || r.Claim != nil || r.LastError.GetCode() != 554 || r.Attempts != 1 {
		t.Errorf("dropped recipient: %v", r)
	}
	if r := w.fold(1, dropped(ref(1, 1), id, 0), nil); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("twice: %v", r.Code)
	}
	v := w.view()
	rows, err := v.History(id, Position{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	last := rows[len(rows)-1].Record
	if last.Kind != pb.HistoryRecord_KIND_DROPPED || last.Report != nil || !strings.Contains(last.Text, "refused for good") {
		t.Errorf("history ends with %v", last)
	}
	checkState(t, w.state)
}

func TestMarkedMailHasARetentionOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	event := w.renewed(domainWithPolicy("month"))
	w.must(1, event, nil)
	if got := w.state.PolicyFor("example.test", ClassSpam).Retention; got != 5*24*time.Hour {
		t.Errorf("marked mail is kept for %s by default", got)
	}
	short := domainWithPolicy("month")
	short.GetDomainSet().Domain.SpamRetention = int64(time.Hour)
	w.must(1, w.renewed(short), nil)
	if got := w.state.PolicyFor("example.test", ClassSpam).Retention; got != time.Hour {
		t.Errorf("marked mail is kept for %s", got)
	}
	long := domainWithPolicy("eleven")
	long.GetDomainSet().Domain.SpamRetention = int64(1000 * time.Hour)
	w.must(1, w.renewed(long), nil)
	if got := w.state.PolicyFor("example.test", ClassSpam).Retention; got != 4*24*time.Hour {
		t.Errorf("marked mail is kept for %s, longer than its policy", got)
	}
	w.acceptMarked("one@example.test", "two@example.test")
	later := w.now.Add(time.Second)
	for class, want := range map[Class]int{ClassSpam: 1, ClassMail: 1, ClassReport: 0} {
		rows, err := w.state.Oldest("example.test", class, later, 10)
		if err != nil || len(rows) != want {
			t.Errorf("class %c has %d rows, want %d, %v", class, len(rows), want, err)
		}
	}
	bad := domainWithPolicy("month")
	bad.GetDomainSet().Domain.SpamIf = []string{"no rule!"}
	if r := w.fold(1, bad, nil); r.Code != pb.EventResult_CODE_INVALID {
		t.Errorf("a bad rule: %v %s", r.Code, r.Text)
	}
}

// A message counts once at each domain where it has an open recipient.
func TestWhatIsHeldForADomain(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, domainSet("other.test", "dest"), nil)
	held := func(step, domain string, want uint64) {
		t.Helper()
		messages, bytes := w.state.Queued(domain)
		if messages != want || bytes != want*uint64(len(testBody)) {
			t.Errorf("%s: %d messages with %d bytes at %s, want %d messages", step, messages, bytes, domain, want)
		}
	}
	id := w.accept(1, "one@example.test", "two@example.test", "three@other.test")
	w.accept(1, "one@example.test")
	held("accepted", "example.test", 2)
	held("accepted", "other.test", 1)
	held("accepted", "nobody.test", 0)
	w.must(1, claimOf(1, id, 0, 2), nil)
	w.must(1, delivered(ref(1, 1), id, 0, 2), nil)
	held("one of two is delivered", "example.test", 2)
	held("its only one is delivered", "other.test", 0)
	w.must(1, claimOf(2, id, 1), nil)
	w.must(1, delivered(ref(1, 2), id, 1), nil)
	held("both are delivered", "example.test", 1)
	taken := w.accept(1, "one@other.test", "two@other.test")
	held("another one", "other.test", 1)
	w.must(1, aborted(taken), nil)
	held("taken back", "other.test", 0)
	checkState(t, w.state)
}

// A return that an operator has taken back meanwhile drops nothing.
func TestDropOfWhatIsNotReturnedAnyMore(t *testing.T) {
	w := operatorWorld(t)
	id := [16]byte(w.acceptMarked("one@example.test").GetMessageAccepted().MessageId)
	drop := func() *pb.EventResult {
		return w.fold(1, &pb.Event{Kind: &pb.Event_Dropped{Dropped: &pb.Dropped{
			MessageId: id[:], Reason: pb.Dropped_REASON_RETURNED, Recipients: []*pb.Dropped_Recipient{{}},
		}}}, nil)
	}
	w.must(1, operated(opBounce, id, 0), nil)
	w.must(1, operated(&pb.Operation{Kind: pb.Operation_KIND_REDIRECT, By: "ann", Address: "New@other.test"}, id, 0), nil)
	if r := drop(); r.Code != codeStale {
		t.Errorf("dropped though it was redirected: %v", r)
	}
	w.wantState(id, 0, pending)
	w.must(1, operated(opBounce, id, 0), nil)
	if r := drop(); r.Code != codeOK {
		t.Errorf("what is to be returned: %v", r)
	}
	w.wantState(id, 0, pb.RecipientState_RECIPIENT_STATE_DROPPED)
}
