package delivery

import (
	"crypto/rand"
	"errors"
	"hash/crc32"
	"strings"
	"time"

	"holdfast/delivery/dsn"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// giveUp ends recipients for good: it returns them to the sender, or freezes
// them where the message is itself a report. The claim is nil for expiry. It says
// what became of each.
func (s *Scheduler) giveUp(id relay.MessageID, m *pb.MessageRecord, claim *pb.ClaimRef,
	recipients []ended, reason pb.Bounced_Reason, attempt *pb.Attempt,
) []ended {
	if len(recipients) == 0 {
		return nil
	}
	if isReport(m) {
		return ending(recipients, wasFrozen, s.freeze(id, claim, recipients, attempt))
	}
	marked, others := sortMarked(recipients)
	return append(
		ending(marked, wasDropped, s.drop(id, claim, marked, reason, attempt)),
		ending(others, wasBounced, s.bounce(id, m, claim, others, reason, attempt))...)
}

// bounce returns recipients to the sender; taken is whether the log has it.
func (s *Scheduler) bounce(id relay.MessageID, m *pb.MessageRecord, claim *pb.ClaimRef,
	recipients []ended, reason pb.Bounced_Reason, attempt *pb.Attempt,
) (taken bool) {
	if len(recipients) == 0 {
		return false
	}
	report, body, err := s.report(id, m, recipients, reason)
	if err != nil {
		// Without its report the end must not be recorded; the claim comes back.
		s.log.Error("write report", "id", id, "error", err)
		s.postpone(id, claim, recipients, attempt)
		return false
	}
	bounced := &pb.Bounced{
		Claim: claim, MessageId: id[:], Attempt: attempt, Reason: reason, Report: report,
	}
	for _, e := range recipients {
		bounced.Recipients = append(bounced.Recipients, &pb.Bounced_Recipient{
			Recipient: e.number, Failure: failureOf(e),
		})
	}
	return s.proposeEnd(claim, func() *pb.Event {
		return s.event(&pb.Event{Kind: &pb.Event_Bounced{Bounced: bounced}})
	}, body)
}

// failureOf is the failure that ends a recipient: the attempt's, or with expiry
// the last one on record.
func failureOf(e ended) *pb.Failure {
	if e.failure != nil {
		return failureRecord(e.failure)
	}
	return e.record.LastError
}

// report renders the report on those recipients whose sender wants one. It is
// nil where nobody does.
func (s *Scheduler) report(id relay.MessageID, m *pb.MessageRecord, recipients []ended,
	reason pb.Bounced_Reason,
) (*pb.Bounced_Report, []byte, error) {
	r := s.reportOn(id, m)
	r.Reason = dsn.Rejected
	switch reason {
	case pb.Bounced_REASON_EXPIRED, pb.Bounced_REASON_ATTEMPTS:
		r.Reason = dsn.Expired
	case pb.Bounced_REASON_RETURNED:
		r.Reason = dsn.Returned
	}
	for _, e := range recipients {
		if dsn.Due(r.To, e.record.Recipient.GetNotify()) {
			r.Recipients = append(r.Recipients, dsn.Recipient{
				Address: e.record.Recipient.GetAddress(), ORcpt: e.record.Recipient.GetOrcpt(),
				Failure: failureFrom(failureOf(e)),
			})
		}
	}
	return s.compose(r)
}

// reportOn is what all reports on a message have in common.
func (s *Scheduler) reportOn(id relay.MessageID, m *pb.MessageRecord) dsn.Report {
	return dsn.Report{
		Date: s.cfg.Now(), ReportingMTA: s.cfg.Hostname, To: m.Envelope.GetFrom(),
		EnvID: m.Envelope.GetEnvid(), Ret: m.Envelope.GetRet(), SMTPUTF8: m.Envelope.GetSmtputf8(),
		ArrivalDate: time.Unix(0, m.AcceptedAt), OriginalID: id, HeaderMessageID: m.HeaderMessageId,
	}
}

// compose renders a report as events carry it; without recipients there is none.
func (s *Scheduler) compose(r dsn.Report) (*pb.Bounced_Report, []byte, error) {
	if len(r.Recipients) == 0 {
		return nil, nil, nil
	}
	var err error
	if r.ID, err = relay.NewMessageID(r.Date, rand.Reader); err != nil {
		return nil, nil, err
	}
	body, err := s.render(r, r.OriginalID)
	if err != nil {
		return nil, nil, err
	}
	report := &pb.Bounced_Report{
		MessageId: r.ID[:], Smtputf8: r.International(), BodyType: reportBodyType(body),
		Content: &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, castagnoli)},
		Domain:  relay.OtherDomain(r.To, relay.RelayDomain(r.To)),
	}
	return report, body, nil
}

func (s *Scheduler) render(r dsn.Report, original relay.MessageID) ([]byte, error) {
	rendered, err := s.renderWhole(r, original)
	if errors.Is(err, fsm.ErrBody) {
		// The message is damaged here; its sender learns of the failure all the same.
		s.log.Error("the report is without its original", "id", original, "error", err)
		return r.Render(strings.NewReader(""))
	}
	return rendered, err
}

func (s *Scheduler) renderWhole(r dsn.Report, original relay.MessageID) ([]byte, error) {
	body, _, err := s.cfg.State.Body(original)
	if err != nil {
		return nil, err
	}
	rendered, err := r.Render(body)
	return rendered, errors.Join(err, body.Close())
}

// reportBodyType declares 8-bit content (RFC 6152); a report has no other kind.
func reportBodyType(body []byte) pb.BodyType {
	for _, b := range body {
		if b >= 0x80 {
			return pb.BodyType_BODY_TYPE_8BITMIME
		}
	}
	return pb.BodyType_BODY_TYPE_7BIT
}

// failureFrom is the reverse of failureRecord, nil for nil.
func failureFrom(f *pb.Failure) *relay.Failure {
	if f == nil {
		return nil
	}
	return &relay.Failure{
		Cause: relay.Cause(f.Cause), Phase: relay.Phase(f.Phase), Host: f.Host, Code: int(f.Code),
		Enhanced: f.Enhanced, Text: f.Text, At: time.Unix(0, f.At), InDoubt: f.InDoubt, Own: f.Own,
	}
}

// freeze ends the attempts for a report that failed: a report causes none (R6).
func (s *Scheduler) freeze(id relay.MessageID, claim *pb.ClaimRef, recipients []ended, attempt *pb.Attempt) (taken bool) {
	frozen := &pb.Frozen{Claim: claim, MessageId: id[:], Attempt: attempt}
	for _, e := range recipients {
		frozen.Recipients = append(frozen.Recipients, &pb.Frozen_Recipient{
			Recipient: e.number, Failure: failureOf(e),
		})
	}
	return s.proposeEnd(claim, func() *pb.Event {
		return s.event(&pb.Event{Kind: &pb.Event_Frozen{Frozen: frozen}})
	}, nil)
}

// postpone gives recipients back whose end couldn't be recorded.
func (s *Scheduler) postpone(id relay.MessageID, claim *pb.ClaimRef, recipients []ended, attempt *pb.Attempt) {
	if claim == nil {
		return // nothing is held; the next round of expiry tries again
	}
	failed := &pb.AttemptFailed{Claim: claim, MessageId: id[:], Attempt: attempt}
	for _, e := range recipients {
		failed.Recipients = append(failed.Recipients, &pb.AttemptFailed_Recipient{
			Recipient: e.number, Failure: failureOf(e), NextAttempt: s.cfg.Now().Add(avoidHost).UnixNano(),
		})
	}
	s.propose(func() *pb.Event {
		return s.event(&pb.Event{Kind: &pb.Event_AttemptFailed{AttemptFailed: failed}})
	}, nil)
}
