package delivery

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"holdfast/delivery/dsn"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// warnDomain tells senders of mail that has waited for the policy's warning time.
func (s *Scheduler) warnDomain(ctx context.Context, domain string) error {
	after := s.cfg.State.PolicyFor(domain, fsm.ClassMail).WarnAfter
	if after == 0 {
		return nil
	}
	rows, err := s.cfg.State.Oldest(domain, fsm.ClassMail, s.cfg.Now().Add(-after), expiryBatch)
	if err != nil {
		return err
	}
	warned := relay.MessageID{}
	for _, row := range rows {
		if ctx.Err() != nil || !s.cfg.Lease.Leased() {
			return nil //nolint:nilerr // the next round goes on, here or at another node
		}
		if row.ID == warned {
			continue // all of its recipients are in one report
		}
		warned = row.ID
		switch err := s.warn(row.ID); {
		case errors.Is(err, fsm.ErrClosed):
			return err
		case err != nil && !errors.Is(err, fsm.ErrNotFound):
			// Those behind it are warned of all the same.
			s.log.Error("warn of a delay", "id", row.ID, "error", err)
		}
	}
	return nil
}

// warn reports on all recipients of a message that are late and weren't reported
// on before, whichever domain they are at: each by the policy of its own.
func (s *Scheduler) warn(id relay.MessageID) error {
	view, err := s.cfg.State.View()
	if err != nil {
		return err
	}
	defer view.Close()
	message, err := view.Message(id)
	if err != nil {
		return err
	}
	recipients, err := view.Recipients(id)
	if err != nil {
		return err
	}
	event := &pb.DelayWarned{MessageId: id[:]}
	r := s.reportOn(id, message)
	r.Reason = dsn.Delayed
	for number, record := range recipients {
		policy := view.PolicyFor(record.Domain, fsm.ClassMail)
		if !s.isLate(message, record, policy) || len(r.Recipients) == dsn.MaxRecipients {
			continue
		}
		event.Recipients = append(event.Recipients, uint32(number))
		r.Recipients = append(r.Recipients, dsn.Recipient{
			Address: record.Recipient.GetAddress(), ORcpt: record.Recipient.GetOrcpt(),
			Failure: failureFrom(latestFailure(view, record)), RetryUntil: fsm.RetentionFrom(message, record).Add(policy.Retention),
		})
	}
	if len(event.Recipients) == 0 {
		return nil
	}
	var body []byte
	if _, routed := view.RouteOf(r.To); routed {
		if event.Report, body, err = s.compose(r); err != nil {
			return err
		}
	}
	s.proposeEnd(nil, func() *pb.Event {
		return s.event(&pb.Event{Kind: &pb.Event_DelayWarned{DelayWarned: event}})
	}, body)
	return nil
}

// isLate reports whether a recipient waits longer than its policy keeps quiet about,
// and nobody was told. One with an attempt under way may be there in a moment: the
// next round knows.
func (s *Scheduler) isLate(message *pb.MessageRecord, record *pb.RecipientRecord, policy relay.Policy) bool {
	if record.State != pb.RecipientState_RECIPIENT_STATE_PENDING || record.Claim != nil || record.Ordered != nil ||
		fsm.PendingClass(message, record) != fsm.ClassMail {
		return false
	}
	return policy.WarnAfter > 0 && s.cfg.Now().Sub(fsm.RetentionFrom(message, record)) > policy.WarnAfter
}

// latestFailure is why a recipient waits: while its destination is down, that. Which
// message the probe had, and whether that one is in doubt, says nothing of this one.
func latestFailure(view *fsm.View, record *pb.RecipientRecord) *pb.Failure {
	destination, ok := view.Destination(record.Destination)
	if !ok || destination.Health.GetState() != pb.DestinationHealth_STATE_DOWN {
		return record.LastError
	}
	failure := destination.Health.Failure
	if failure.GetInDoubt() {
		failure = proto.CloneOf(failure)
		failure.InDoubt = false
	}
	return failure
}

// finalFailure is what a report on a recipient that is given up says: why it waited, but
// for one that may have arrived, that.
func finalFailure(view *fsm.View, record *pb.RecipientRecord) *pb.Failure {
	if record.LastError.GetInDoubt() {
		return record.LastError
	}
	return latestFailure(view, record)
}

// deliver proposes what was delivered, with a report to a sender who asked for
// one where the next hop doesn't take that duty over (RFC 3461 section 5.2.2).
func (s *Scheduler) deliver(a *attempt, recipients []*pb.Delivered_Recipient) {
	if len(recipients) == 0 {
		return
	}
	delivered := &pb.Delivered{Claim: a.grant.Claim, MessageId: a.id[:], Recipients: recipients, Attempt: s.describe(a)}
	report, body, err := s.relayedReport(a, recipients)
	if err != nil {
		// The message has arrived: that must be known, report or not.
		s.log.Error("write report", "id", a.id, "error", err)
	} else {
		delivered.Report = report
	}
	s.propose(func() *pb.Event {
		return s.event(&pb.Event{Kind: &pb.Event_Delivered{Delivered: delivered}})
	}, body)
}

func (s *Scheduler) relayedReport(a *attempt, recipients []*pb.Delivered_Recipient) (*pb.Bounced_Report, []byte, error) {
	r := s.reportOn(a.id, a.message)
	r.Reason = dsn.Relayed
	if _, routed := s.cfg.State.RouteOf(r.To); a.result.DSN || !routed || isReport(a.message) {
		return nil, nil, nil
	}
	for _, d := range recipients {
		record := a.recipients[indexOf(a.grant.Record.Recipients, d.Recipient)]
		if dsn.SuccessDue(r.To, record.Recipient.GetNotify()) && !record.Recipient.GetSpam() {
			r.Recipients = append(r.Recipients, dsn.Recipient{
				Address: record.Recipient.GetAddress(), ORcpt: record.Recipient.GetOrcpt(),
				Host: a.result.Host, Reply: d.Text,
			})
		}
	}
	return s.compose(r)
}
