package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// maxFailureText bounds the remote's words in an event, in bytes.
const maxFailureText = 2000

// outcome sorts the recipients of an attempt by what became of them.
type outcome struct {
	delivered   []*pb.Delivered_Recipient
	deferred    []*pb.AttemptFailed_Recipient // by the message's own policy
	uncounted   []*pb.AttemptFailed_Recipient // the host's doing, or this node's: counts towards no limit
	rejected    []ended
	expired     []ended
	exhausted   []ended  // no attempt is left
	interrupted []uint32 // by us, before the last byte, or their turn never came
	doubted     []uint32 // by us, after it
}

// ended is a recipient that is given up.
type ended struct {
	number  uint32
	record  *pb.RecipientRecord
	failure *relay.Failure
	end     end
}

// end is what became of a recipient that was given up, as its log line has it.
type end string

const (
	notRecorded end = "not recorded" // the log took no end: it is tried again
	wasBounced  end = "bounced"
	wasDropped  end = "dropped"
	wasFrozen   end = "frozen"
)

// ending has all recipients end so if the log took their end.
func ending(recipients []ended, as end, taken bool) []ended {
	if !taken {
		as = notRecorded
	}
	for i := range recipients {
		recipients[i].end = as
	}
	return recipients
}

// settle proposes what came of an attempt: first what it says of the host, so
// that its message isn't claimed again before the outage is known.
func (s *Scheduler) settle(a *attempt, v verdict) {
	if a.skipped {
		s.propose(releaseEvent(s.cfg.Now(), false, a.grant), nil)
		return
	}
	s.settleHealth(a, v)
	o := s.sort(a, v)
	s.logOutcome(a, &o)
	s.deliver(a, o.delivered)
	s.proposeFailed(a, o.deferred, a.probe)
	s.proposeFailed(a, o.uncounted, true)
	s.giveUpAfter(a, o.rejected, pb.Bounced_REASON_REJECTED)
	s.giveUpAfter(a, o.expired, pb.Bounced_REASON_EXPIRED)
	s.giveUpAfter(a, o.exhausted, pb.Bounced_REASON_ATTEMPTS)
	s.proposeReleased(a, o.interrupted, false)
	s.proposeReleased(a, o.doubted, true)
}

func (s *Scheduler) settleHealth(a *attempt, v verdict) (index uint64) {
	record, ok := s.cfg.State.Destination(a.queue)
	if !ok {
		return 0
	}
	switch {
	case v.failed != nil:
		next := s.nextProbe(record.Health, record.Config)
		index, taken := s.propose(func() *pb.Event {
			return s.event(&pb.Event{Kind: &pb.Event_DestinationFailed{DestinationFailed: &pb.DestinationFailed{
				Name: a.queue, Probes: a.probes, Failure: failureRecord(v.failed),
				NextProbe: next.UnixNano(), Node: s.cfg.Node,
			}}})
		}, nil)
		switch {
		case taken && v.passedOn:
			s.log.Warn("destination passed on, for another node to deliver what can't be read here", "destination", a.queue, "id", a.id)
		case taken:
			s.log.Warn("destination failed", "destination", a.queue, "cause", v.failed.Error(), "next_probe", next)
		}
		return index
	case v.recovered:
		index, taken := s.propose(func() *pb.Event {
			return s.event(&pb.Event{Kind: &pb.Event_DestinationRecovered{DestinationRecovered: &pb.DestinationRecovered{
				Name: a.queue, Probes: a.probes, Node: s.cfg.Node,
			}}})
		}, nil)
		if taken {
			s.log.Info("destination recovered", "destination", a.queue)
		}
		return index
	}
	return 0
}

// giveUpAfter ends recipients by what came of an attempt, and writes the line of each
// once it is known what became of it.
func (s *Scheduler) giveUpAfter(a *attempt, recipients []ended, reason pb.Bounced_Reason) {
	for _, e := range s.giveUp(a.id, a.message, a.grant.Claim, recipients, reason, s.describe(a)) {
		status := string(e.end)
		if e.end == wasBounced && reason != pb.Bounced_REASON_REJECTED {
			status = "expired"
		}
		s.logRecipient(a, e.number, status, e.failure.Error())
	}
}

// sort decides, recipient by recipient, what an attempt's result means.
func (s *Scheduler) sort(a *attempt, v verdict) outcome {
	var o outcome
	// One lot for all: recipients that are due together share the next attempt.
	chance := s.cfg.Chance()
	for i, record := range a.recipients {
		number := a.grant.Record.Recipients[i]
		failure := a.failure
		if failure == nil {
			failure = a.result.Outcomes[i].Failure
		}
		if failure == nil {
			reply := a.result.Outcomes[i].Reply
			o.delivered = append(o.delivered, &pb.Delivered_Recipient{
				Recipient: number, Code: uint32(reply.Code), Text: printable(reply.String()),
				Earlier: proto.Uint32(uint32(len(record.Earlier))),
			})
			continue
		}
		s.sortFailure(&o, a, v, chance, ended{number: number, record: record, failure: failure})
	}
	return o
}

func (s *Scheduler) sortFailure(o *outcome, a *attempt, v verdict, chance float64, e ended) {
	if interrupted(e.failure) || e.failure.Untried || hasEnded(e.failure) {
		if e.failure.InDoubt {
			o.doubted = append(o.doubted, e.number)
		} else {
			o.interrupted = append(o.interrupted, e.number)
		}
		return
	}
	if isUnreadable(e.failure) {
		s.sortUnreadable(o, a, v, e)
		return
	}
	switch a.classOf(e.failure, v) {
	case relay.PermanentFailure:
		o.rejected = append(o.rejected, e)
	case relay.HostFailure:
		o.uncounted = append(o.uncounted, &pb.AttemptFailed_Recipient{
			Recipient: e.number, Failure: failureRecord(e.failure), NextAttempt: a.ended.Add(v.delay).UnixNano(),
		})
	default:
		s.sortDeferred(o, a, chance, e)
	}
}

// sortDeferred goes by the policy as it is now. The destination's probe is no
// attempt of the message's own.
func (s *Scheduler) sortDeferred(o *outcome, a *attempt, chance float64, e ended) {
	policy := s.cfg.State.PolicyFor(e.record.Domain, fsm.PendingClass(a.message, e.record))
	accepted := fsm.RetentionFrom(a.message, e.record)
	made := int(e.record.Attempts)
	if !a.probe {
		made++
	}
	switch {
	case a.ended.Sub(accepted) >= policy.Retention:
		o.expired = append(o.expired, e)
	case policy.MaxAttempts > 0 && made >= policy.MaxAttempts:
		o.exhausted = append(o.exhausted, e)
	default:
		o.deferred = append(o.deferred, &pb.AttemptFailed_Recipient{
			Recipient: e.number, Failure: failureRecord(e.failure),
			NextAttempt: policy.Next(accepted, a.ended, chance).UnixNano(),
		})
	}
}

// isOver: the recipient's retention has ended.
func (s *Scheduler) isOver(view *fsm.View, message *pb.MessageRecord, record *pb.RecipientRecord) bool {
	policy := view.PolicyFor(record.Domain, fsm.PendingClass(message, record))
	return s.cfg.Now().Sub(fsm.RetentionFrom(message, record)) >= policy.Retention
}

func isReport(m *pb.MessageRecord) bool { return len(m.GetReportOn()) > 0 }

// classOf is the failure's class for the recipient; an attempt that was cut off
// for its length is tried again by the message's own schedule, and so is what a host
// lacks the means for where others are left.
func (a *attempt) classOf(f *relay.Failure, v verdict) relay.Class {
	switch class := f.Class(); {
	case errors.Is(f, errTooLong):
		return relay.TemporaryFailure
	case class == relay.PermanentFailure && a.config.GetHoldRejected():
		return relay.TemporaryFailure
	case class == relay.PermanentFailure && errors.Is(f, smtpout.ErrUnfit) && a.hostsLeft:
		return relay.TemporaryFailure
	case class == relay.TemporaryFailure && v.refuses && !f.InDoubt:
		return relay.HostFailure
	}
	return f.Class()
}

func (s *Scheduler) proposeFailed(a *attempt, recipients []*pb.AttemptFailed_Recipient, uncounted bool) {
	if len(recipients) == 0 {
		return
	}
	s.propose(func() *pb.Event {
		return s.event(&pb.Event{Kind: &pb.Event_AttemptFailed{AttemptFailed: &pb.AttemptFailed{
			Claim: a.grant.Claim, MessageId: a.id[:], Recipients: recipients,
			Attempt: s.describe(a), Uncounted: uncounted,
		}}})
	}, nil)
}

func (s *Scheduler) proposeReleased(a *attempt, numbers []uint32, inDoubt bool) {
	if len(numbers) == 0 {
		return
	}
	grant := a.grant
	grant.Record = &pb.ClaimRecord{MessageId: a.id[:], Recipients: numbers}
	s.propose(releaseEvent(s.cfg.Now(), inDoubt, grant), nil)
}

// propose puts an event into the log and returns its index once its outcome is known,
// 0 where the node stops before; taken is whether it had its effect. An outcome that got lost with an incarnation is
// proposed anew by the next one: each of these events says to which claim it belongs,
// and holds once. One that the log doesn't take goes without the remote's words: an
// outcome that never came into the log would be an attempt made again and again.
func (s *Scheduler) propose(build func() *pb.Event, payload []byte) (index uint64, taken bool) {
	return s.proposeIn(s.outcomes, true, build, payload)
}

// proposeEnd is propose for an end under a claim, or without one (expiry, an operator's
// order), which is good only for as long as what it was decided by. Nothing tells Apply
// that it was overtaken: it may have held once, and have been undone by an operator since.
// It is given up with its incarnation; the next round decides anew.
func (s *Scheduler) proposeEnd(claim *pb.ClaimRef, build func() *pb.Event, payload []byte) (taken bool) {
	if claim != nil {
		_, taken = s.propose(build, payload)
		return taken
	}
	ctx, cancel := context.WithTimeout(s.outcomes, decisionHolds)
	defer cancel()
	_, taken = s.proposeIn(ctx, false, build, payload)
	return taken
}

func (s *Scheduler) proposeIn(ctx context.Context, anew bool, build func() *pb.Event, payload []byte) (index uint64, taken bool) {
	wordless := false
	for tries := 0; ; tries++ {
		event := build()
		if wordless {
			leaveOutWords(event)
		}
		result, index, err := s.cfg.Proposer.Propose(ctx, event, payload)
		switch {
		case err == nil && result.Code == pb.EventResult_CODE_INVALID && !wordless:
			s.log.Error("event refused, tries it without the remote's words", "reason", result.Text)
			wordless = true
			continue
		case err == nil && result.Code == pb.EventResult_CODE_NOT_ACTIVE && anew:
			// The next incarnation says it again.
		case err == nil:
			if result.Code != pb.EventResult_CODE_OK && result.Code != pb.EventResult_CODE_STALE {
				s.log.Error("event refused", "code", result.Code, "reason", result.Text)
			}
			return index, result.Code == pb.EventResult_CODE_OK
		case !anew:
			s.log.Info("gives up what it proposed, decides anew", "error", err)
			return 0, false
		case s.outcomes.Err() != nil:
			s.log.Warn("stopped before the outcome of an attempt was in the log: it will be in doubt", "error", err)
			return 0, false
		case tries == 0:
			s.log.Info("proposes an outcome again", "error", err)
		}
		retry := time.NewTimer(proposeRetry)
		select {
		case <-retry.C:
		case <-s.outcomes.Done():
		}
		retry.Stop()
	}
}

// leaveOutWords takes out of an outcome what came from elsewhere and isn't
// needed to end an attempt.
func leaveOutWords(event *pb.Event) {
	var failures []*pb.Failure
	switch kind := event.Kind.(type) {
	case *pb.Event_Delivered:
		kind.Delivered.Attempt = nil
		for _, r := range kind.Delivered.Recipients {
			r.Text = ""
		}
	case *pb.Event_AttemptFailed:
		kind.AttemptFailed.Attempt = nil
		for _, r := range kind.AttemptFailed.Recipients {
			failures = append(failures, r.Failure)
		}
	case *pb.Event_Bounced:
		kind.Bounced.Attempt = nil
		for _, r := range kind.Bounced.Recipients {
			failures = append(failures, r.Failure)
		}
	case *pb.Event_Frozen:
		kind.Frozen.Attempt = nil
		for _, r := range kind.Frozen.Recipients {
			failures = append(failures, r.Failure)
		}
	case *pb.Event_Dropped:
		kind.Dropped.Attempt = nil
		for _, r := range kind.Dropped.Recipients {
			failures = append(failures, r.Failure)
		}
	case *pb.Event_DestinationFailed:
		failures = append(failures, kind.DestinationFailed.Failure)
	}
	for _, f := range failures {
		if f != nil {
			f.Host, f.Enhanced, f.Text = "", "", "(the remote's words could not be recorded)"
		}
	}
}

func (s *Scheduler) event(event *pb.Event) *pb.Event {
	event.Time = s.cfg.Now().UnixNano()
	return event
}

func (s *Scheduler) describe(a *attempt) *pb.Attempt {
	d := &pb.Attempt{
		Node: s.cfg.Node, Host: a.result.Host, Address: a.result.Address, Tls: a.result.TLS,
		Started: a.started.UnixNano(), Duration: int64(a.ended.Sub(a.started)),
	}
	if a.failure != nil {
		d.Host, d.Address = a.failure.Host, a.failure.Address
	}
	return d
}

// relayOf names the host, with its address where that says more, as Postfix does:
// mail.example.com[192.0.2.25]:25.
func relayOf(a *pb.Attempt) string {
	host, port, err := net.SplitHostPort(a.Host)
	address, _, addressErr := net.SplitHostPort(a.Address)
	if err != nil || addressErr != nil || host == address {
		return a.Host
	}
	return fmt.Sprintf("%s[%s]:%s", host, address, port)
}

// failureRecord is a failure as events carry it.
func failureRecord(f *relay.Failure) *pb.Failure {
	return &pb.Failure{
		Cause: string(f.Cause), Phase: string(f.Phase), Host: f.Host,
		Code: uint32(f.Code), Enhanced: printable(f.Enhanced), Text: printable(f.Text),
		At: f.At.UnixNano(), InDoubt: f.InDoubt, Own: f.Own,
	}
}

// printable makes a remote's words fit for an event: valid UTF-8, bounded.
func printable(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for len(text) > maxFailureText {
		text = strings.ToValidUTF8(text[:maxFailureText], "")
	}
	return text
}

// logOutcome writes one line for each recipient but those that are given up: what the
// remote said is so whether or not the log takes it.
func (s *Scheduler) logOutcome(a *attempt, o *outcome) {
	next := func(nanoseconds int64) []any { return []any{"next", time.Unix(0, nanoseconds).UTC()} }
	for _, d := range o.delivered {
		s.logRecipient(a, d.Recipient, "delivered", d.Text)
	}
	for _, f := range o.deferred {
		s.logRecipient(a, f.Recipient, "deferred", fsm.ReplyText(f.Failure), next(f.NextAttempt)...)
	}
	for _, f := range o.uncounted {
		s.logRecipient(a, f.Recipient, "deferred", f.Failure.Cause+": "+fsm.ReplyText(f.Failure), next(f.NextAttempt)...)
	}
	for _, number := range o.interrupted {
		s.logRecipient(a, number, "interrupted", "")
	}
	for _, number := range o.doubted {
		s.logRecipient(a, number, "in doubt", "")
	}
}

// logRecipient writes a recipient's line, in the words that people search a mail log
// for.
func (s *Scheduler) logRecipient(a *attempt, number uint32, status, reply string, more ...any) {
	described := s.describe(a)
	rec := a.recipients[indexOf(a.grant.Record.Recipients, number)]
	s.log.Info("attempt", append([]any{
		"id", a.id, "from", a.message.Envelope.GetFrom(), "to", rec.Recipient.GetAddress(),
		"destination", a.queue, "relay", relayOf(described), "tls", described.Tls, "attempt", rec.Attempts + 1,
		"delay", a.ended.Sub(time.Unix(0, a.message.AcceptedAt)), "took", a.ended.Sub(a.started),
		"status", status, "reply", reply,
	}, more...)...)
}

func indexOf(numbers []uint32, number uint32) int {
	for i, n := range numbers {
		if n == number {
			return i
		}
	}
	return 0
}
