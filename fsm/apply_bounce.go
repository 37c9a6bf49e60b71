package fsm

import (
	"fmt"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func errClaimWithoutMessage(id relay.MessageID) error {
	return fmt.Errorf("a claim names message %s, which doesn't exist", id)
}

// bounced ends recipients and files the report about them in one step, so that
// there is exactly one report (B2). It holds for all its recipients or for none:
// the report names them all.
func (t *tx) bounced(e *pb.Bounced) *pb.EventResult {
	m := t.messageOf(e.MessageId)
	if m == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no such message")
	}
	if len(e.Recipients) == 0 {
		return invalid("the bounce of %s names no recipient", m.id)
	}
	ending, refusal := endingOf(t, m, e, e.Recipients)
	if refusal != nil {
		return refusal
	}
	for _, r := range ending {
		if e.Reason == pb.Bounced_REASON_RETURNED && !isReturning(r.rec) {
			return stale("recipient %d of %s is not to be returned", r.number, m.id)
		}
	}
	report, refusal := t.fileReport(m, e.Report)
	if refusal != nil {
		return refusal
	}
	for i, r := range ending {
		row := &pb.HistoryRecord{
			Kind: pb.HistoryRecord_KIND_BOUNCED, Recipients: []uint32{r.number}, Attempt: e.Attempt,
			Failure: e.Recipients[i].Failure, Text: reasonText(e.Reason), Report: report,
		}
		if e.Reason == pb.Bounced_REASON_RETURNED {
			row.By, row.Reason = r.rec.Ordered.Operation.GetBy(), r.rec.Ordered.Operation.GetReason()
		}
		if e.Reason == pb.Bounced_REASON_REJECTED {
			t.endValid(r, e.Recipients[i].Failure)
		}
		t.end(m, r, e, pb.RecipientState_RECIPIENT_STATE_BOUNCED, e.Recipients[i].Failure)
		r.rec.EndedAt = t.event.Time
		t.saveRecipient(m, r)
		t.addHistory(m, row)
	}
	t.saveMessage(m)
	return resultOK
}

func reasonText(reason pb.Bounced_Reason) string {
	switch reason {
	case pb.Bounced_REASON_REJECTED:
		return "refused for good"
	case pb.Bounced_REASON_EXPIRED:
		return "retention is over"
	case pb.Bounced_REASON_ATTEMPTS:
		return "all attempts of the policy have failed"
	case pb.Bounced_REASON_RETURNED:
		return "returned by an operator"
	}
	return ""
}

// fileReport files a report as a message to the original's sender, and returns
// its id, nil where there is no report. It is frozen where there is no way to
// the sender's domain.
func (t *tx) fileReport(about *message, report *pb.Bounced_Report) ([]byte, *pb.EventResult) {
	if report == nil {
		return nil, nil
	}
	id, err := relay.MessageIDFromBytes(report.MessageId)
	sender := about.rec.Envelope.GetFrom()
	if err != nil || sender == "" || report.Content == nil || t.get(keyOfID(famMessages, id)) != nil {
		return nil, invalid("the report on %s can't be filed", about.id)
	}
	to := &pb.Recipient{Address: sender, Notify: "NEVER", Domain: report.Domain}
	if !isName(domainOf(to)) {
		return nil, invalid("the report on %s goes to a domain with a zero byte", about.id)
	}
	if refusal := t.fileContent(id, report.Content); refusal != nil {
		return nil, refusal
	}
	envelope := &pb.Envelope{Smtputf8: report.Smtputf8, BodyType: report.BodyType}
	m := t.newMessage(id, envelope, report.Content, &pb.Origin{Node: t.node})
	m.rec.ReportOn = about.id[:]
	domain, destination, ok := t.routeOfReport(to)
	to.Domain = relay.OtherDomain(sender, domain)
	rec := &pb.RecipientRecord{
		Recipient: to, Domain: domain, Destination: destination,
		State: pb.RecipientState_RECIPIENT_STATE_PENDING, NextAttempt: t.event.Time,
	}
	if !ok {
		rec.Destination, rec.NextAttempt, rec.Elsewhere = "", 0, true
		rec.State, rec.FrozenAt = pb.RecipientState_RECIPIENT_STATE_FROZEN, t.event.Time
		rec.LastError = &pb.Failure{
			Cause: string(relay.CauseDNS), Phase: string(relay.PhaseDNS), At: t.event.Time,
			// Not %q, which depends on the version of Unicode that a program knows.
			Text: fmt.Sprintf("no destination is configured for the sender's domain %+q", rec.Domain),
		}
	}
	t.addRecipient(m, 0, rec)
	t.saveMessage(m)
	return id[:], nil
}

// frozen ends the attempts for a report that failed: a report causes none.
func (t *tx) frozen(e *pb.Frozen) *pb.EventResult {
	m := t.messageOf(e.MessageId)
	if m == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no such message")
	}
	ending, refusal := endingOf(t, m, e, e.Recipients)
	if refusal != nil {
		return refusal
	}
	for i, r := range ending {
		failure := e.Recipients[i].Failure
		t.end(m, r, e, pb.RecipientState_RECIPIENT_STATE_FROZEN, failure)
		r.rec.FrozenAt = t.event.Time
		t.addHistory(m, &pb.HistoryRecord{
			Kind: pb.HistoryRecord_KIND_FROZEN, Recipients: []uint32{r.number}, Attempt: e.Attempt, Failure: failure,
		})
		t.carryOut(m, r)
		t.saveRecipient(m, r)
	}
	t.saveMessage(m)
	return resultOK
}
