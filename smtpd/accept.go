package smtpd

import (
	"context"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// accept ends a message whose content was read to its end, and returns the
// final reply. It is 250 only when the cluster has the message; it depends on
// no connection, so a client that hangs up now changes nothing.
func (s *session) accept(tx *transaction) *relay.Reply {
	begin := time.Now()
	ctx, cancel := s.server.untilOutcome()
	defer cancel()
	b := tx.body
	if refusal := b.finish(ctx); refusal != nil {
		return refusal
	}
	if closed := s.server.cfg.Gate.Check(); closed != nil {
		b.drop()
		return closed
	}
	if !s.propose(ctx, tx) {
		return notNow
	}
	s.server.metrics.messages.Inc()
	delay := time.Since(begin)
	s.server.metrics.acceptance.Observe(delay.Seconds())
	s.commands, s.errors = 0, 0
	s.logAccepted(tx, delay)
	if s.server.cfg.Answering != nil {
		s.server.cfg.Answering(b.id)
	}
	return reply(250, "2.0.0", b.id.String()+" queued")
}

// propose hands the message to the cluster and reports whether it is there.
// Either way the body is settled afterwards.
func (s *session) propose(ctx context.Context, tx *transaction) bool {
	b := tx.body
	tx.rules.mark(tx.recipients, b.headers.watched)
	event := s.server.newEvent()
	event.Kind = &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId:       b.id[:],
		Envelope:        tx.envelope,
		Recipients:      tx.recipients,
		Content:         b.content(),
		Origin:          s.origin(tx),
		HeaderMessageId: b.headers.id(),
	}}
	result, err := s.server.cfg.Proposer.Propose(ctx, event, b.payload())
	switch {
	case err != nil:
		s.log.Warn("acceptance without a known outcome", "id", b.id.String(), "error", err)
		b.release(false)
		s.server.abortAcceptance(b)
		return false
	case result.GetCode() != pb.EventResult_CODE_OK:
		s.log.Warn("acceptance refused", "id", b.id.String(), "code", result.GetCode().String(), "text", result.GetText())
		b.drop()
		return false
	}
	b.release(true)
	b.pieces = 0
	return true
}

// origin says where the message came from.
func (s *session) origin(tx *transaction) *pb.Origin {
	return &pb.Origin{
		ClientAddress: s.client.String(), Helo: s.helo, Node: s.server.cfg.Node, Protocol: s.protocol(tx),
		Account: s.account.GetName(),
	}
}

// protocol is as RFC 3848 and RFC 6531 section 4.3 name it.
func (s *session) protocol(tx *transaction) string {
	protocol := "SMTP"
	if s.extended {
		protocol = "ESMTP"
	}
	if tx.envelope.Smtputf8 {
		protocol = "UTF8SMTP"
	}
	if s.secured {
		protocol += "S"
	}
	if s.account != nil {
		protocol += "A"
	}
	return protocol
}
