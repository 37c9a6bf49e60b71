package fsm

import (
	pb "holdfast/proto/holdfast/v1"
)

// delayWarned files a report that a message is late and marks its recipients, so
// that each is told of once.
func (t *tx) delayWarned(e *pb.DelayWarned) *pb.EventResult {
	m := t.messageOf(e.MessageId)
	if m == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no such message")
	}
	if len(e.Recipients) == 0 {
		return invalid("the delay warning on %s names no recipient", m.id)
	}
	late := make([]*recipient, 0, len(e.Recipients))
	for i, number := range e.Recipients {
		if i > 0 && number <= e.Recipients[i-1] {
			return invalid("the recipients of %s aren't in ascending order", m.id)
		}
		r := t.recipient(m, number)
		if r == nil || r.rec.State != pb.RecipientState_RECIPIENT_STATE_PENDING || PendingClass(m.rec, r.rec) != ClassMail {
			return stale("recipient %d of %s is not to be warned of", number, m.id)
		}
		late = append(late, r)
	}
	report, refusal := t.fileNotice(m, e.Report)
	if refusal != nil {
		return refusal
	}
	for _, r := range late {
		r.rec.Warned = true
		t.saveRecipient(m, r)
	}
	row := &pb.HistoryRecord{Kind: pb.HistoryRecord_KIND_DELAY_WARNED, Recipients: e.Recipients, Report: report}
	if report == nil {
		row.Text = "no report: the sender's domain has no destination here"
	}
	t.addHistory(m, row)
	t.saveMessage(m)
	return resultOK
}

// fileNotice files a report of something that is no failure. Where there is no
// way to the sender's domain there is none: frozen, it would be work for an
// operator about mail that is all right.
func (t *tx) fileNotice(about *message, report *pb.Bounced_Report) ([]byte, *pb.EventResult) {
	to := &pb.Recipient{Address: about.rec.Envelope.GetFrom(), Domain: report.GetDomain()}
	if _, _, ok := t.routeOfReport(to); !ok {
		return nil, nil
	}
	return t.fileReport(about, report)
}

// relayed files the report that a Delivered carries, if it ends a recipient. The
// delivery holds whatever becomes of the report.
func (t *tx) relayed(m *message, e *pb.Delivered) []byte {
	if e.Report == nil {
		return nil
	}
	for _, d := range e.Recipients {
		if r := t.recipient(m, d.Recipient); r != nil && isOpen(r.rec.State) && addressTaken(r, e.Claim, d) == nil {
			report, refusal := t.fileNotice(m, e.Report)
			if refusal != nil {
				t.s.log.Error("report refused", "about", m.id, "reason", refusal.Text)
			}
			return report
		}
	}
	return nil
}
