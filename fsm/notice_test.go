package fsm

import (
	"hash/crc32"
	"math"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func warnedOf(id, report relay.MessageID, recipients ...uint32) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DelayWarned{DelayWarned: &pb.DelayWarned{
		MessageId: id[:], Recipients: recipients, Report: reportOf(report),
	}}}
}

func reportOf(id relay.MessageID) *pb.Bounced_Report {
	return &pb.Bounced_Report{MessageId: id[:], Content: &pb.Content{
		Size: uint64(len(testBody)), Crc32C: crc32.Checksum(testBody, castagnoli),
	}}
}

func TestDelayIsReportedOnce(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	event := accepted(w.newID(), testBody, "boss@example.test", "one@example.test", "two@example.test", "quiet@example.test")
	event.GetMessageAccepted().Recipients[2].Notify = "NEVER"
	w.must(1, event, testBody)
	id, report := relay.MessageID(event.GetMessageAccepted().MessageId), w.newID()
	if r := w.fold(1, warnedOf(id, report, 0, 2), testBody); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("one who wants no warning: %v %s", r.Code, r.Text)
	}
	w.must(1, warnedOf(id, report, 0, 1), testBody)
	if r := w.fold(1, warnedOf(id, w.newID(), 1), testBody); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("twice: %v %s", r.Code, r.Text)
	}
	if r := w.recipientOf(report, 0); r.State != pending || r.Recipient.Address != "boss@example.test" {
		t.Errorf("the report: %v", r)
	}
	if r := w.recipientOf(id, 0); r.State != pending || !r.Warned {
		t.Errorf("the recipient: %v", r)
	}
	rows, err := w.state.Oldest("example.test", ClassMail, w.now.Add(time.Second), 10)
	if err != nil || len(rows) != 0 {
		t.Errorf("still to be warned of: %v, %v", rows, err)
	}
	checkState(t, w.state)
}

// Where the sender's domain isn't ours there is no report, and no second look.
func TestDelayOfAnOutsidersMail(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id, report := w.accept(1, "one@example.test"), w.newID()
	w.must(1, warnedOf(id, report, 0), testBody)
	v := w.view()
	if _, err := v.Message(report); err == nil {
		t.Error("a report is filed")
	}
	rows, err := v.History(id, Position{}, math.MaxInt)
	if err != nil {
		t.Fatal(err)
	}
	if last := rows[len(rows)-1].Record; last.Kind != pb.HistoryRecord_KIND_DELAY_WARNED || !strings.Contains(last.Text, "no report") {
		t.Errorf("history ends with %v", last)
	}
	checkState(t, w.state)
}

// The report that a message was relayed comes with the delivery, once, and
// nothing that is wrong with it keeps the delivery from counting.
func TestRelayedReport(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id, report := w.acceptFrom("boss@example.test", "one@example.test"), w.newID()
	w.must(1, claimOf(1, id, 0), nil)
	event := delivered(ref(1, 1), id, 0)
	event.GetDelivered().Report = reportOf(report)
	w.must(1, event, testBody)
	if r := w.recipientOf(report, 0); r.State != pending {
		t.Errorf("the report: %v", r)
	}
	again := delivered(ref(1, 1), id, 0)
	second := w.newID()
	again.GetDelivered().Report = reportOf(second)
	w.must(1, again, testBody)
	if _, err := w.view().Message(second); err == nil {
		t.Error("told twice, it is reported twice")
	}
	id = w.acceptFrom("boss@example.test", "two@example.test")
	w.must(1, claimOf(2, id, 0), nil)
	broken := delivered(ref(1, 2), id, 0)
	broken.GetDelivered().Report = reportOf(w.newID())
	w.must(1, broken, []byte("not the body"))
	if r := w.recipientOf(id, 0); r.State != done {
		t.Errorf("with a broken report: %v", r)
	}
	checkState(t, w.state)
}
