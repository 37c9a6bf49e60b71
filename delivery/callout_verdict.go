package delivery

import (
	"errors"
	"time"

	"holdfast/delivery/smtpout"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// judgeCallout answers all who wait, and has what was found out recorded. Until it
// is, who asks gets the same answer.
func (s *Scheduler) judgeCallout(c *callout) {
	q := s.queues[c.queue]
	delete(q.calling, c)
	q.learn(c.attempt)
	s.keep(q, c.attempt)
	var v verdict
	if !c.skipped && !c.wasInterrupted() {
		v = s.verdictOnCallout(q, c.attempt)
	}
	if c.probe {
		s.metrics.probed(v)
		q.silent = false // it is a message's turn
	}
	var event *pb.RecipientVerified
	if c.local != "" { // else nobody has asked: probeAlone
		event = s.answerAll(c)
	}
	s.markDirty(q.name)
	s.start(func() func() {
		index := s.settleHealth(c.attempt, v)
		if event != nil {
			s.record(event, c.ended)
		}
		if err := s.cfg.State.WaitApplied(s.outcomes, index); err != nil && s.outcomes.Err() == nil {
			s.log.Error("wait for what a call-out says of its destination", "destination", c.queue, "error", err)
		}
		return func() {
			// A probe that goes by what was known before this one would be a second one at once.
			s.absorb(s.cfg.State.TakeChanges())
			q.recorded(c)
			s.markDirty(q.name)
		}
	})
}

// answerAll tells what a call-out came to, and returns what is to be recorded of it.
func (s *Scheduler) answerAll(c *callout) *pb.RecipientVerified {
	said, event := s.conclude(c)
	if !s.stands(c) {
		said, event = answer{err: errChanged}, nil
	}
	s.metrics.calledOut(said)
	c.tell(said)
	return event
}

// stands reports whether domain and destination are as they were when a call-out
// began. Else its hosts aren't the destination's any more, or an operator has just
// had refusals forgotten: what was said refuses nobody.
func (s *Scheduler) stands(c *callout) bool {
	domain, ok := s.cfg.State.Domain(c.domain)
	destination, exists := s.cfg.State.Destination(c.queue)
	return ok && exists && domain.Destination == c.queue && domain.Revision == c.domainRevision &&
		destination.Config.GetRevision() == c.config.GetRevision()
}

// record keeps what a call-out found out. It is no outcome: where it gets lost the
// destination is asked again. Of two that were asked one after the other the later
// counts, however their events come into the log.
func (s *Scheduler) record(verified *pb.RecipientVerified, at time.Time) {
	result, index, err := s.cfg.Proposer.Propose(s.outcomes, &pb.Event{
		Time: at.UnixNano(), Kind: &pb.Event_RecipientVerified{RecipientVerified: verified},
	}, nil)
	if err == nil && result.Code != pb.EventResult_CODE_OK && result.Code != pb.EventResult_CODE_STALE {
		err = errors.New(result.Text)
	}
	if err == nil {
		// Who asks next is to find it.
		err = s.cfg.State.WaitApplied(s.outcomes, index)
	}
	if err != nil && s.outcomes.Err() == nil {
		s.log.Info("what a call-out found out wasn't kept", "domain", verified.Domain, "error", err)
	}
}

// tell answers all who have asked.
func (c *callout) tell(said answer) {
	c.over, c.said = true, said
	for _, asked := range c.asking {
		asked.answer <- said
	}
	c.asking = nil
}

// verdictOnCallout is verdictOn for a dialogue without a message. What is said to the
// recipient is said to it alone, but for the failure that the outage is about.
func (s *Scheduler) verdictOnCallout(q *queue, a *attempt) verdict {
	failure := a.hostFailure()
	switch {
	case a.failure != nil && isShort(a.failure):
		return s.verdictOnShortage(q, a)
	case a.failure == nil && tooLong(a.result):
		// That says nothing of the host, but as a probe it isn't one that came back.
		if !a.probe {
			return verdict{}
		}
		return verdict{failed: a.result.Outcomes[0].Failure}
	case failure == nil && a.probe && goesOn(q.record.Health.Failure, a.refusal()):
		return verdict{failed: a.refusal(), refuses: true}
	case failure == nil && a.isSilent():
		if !a.probe {
			return verdict{}
		}
		return verdict{failed: q.outage(a)}
	case failure == nil:
		q.lastAnswer = a.ended
		return verdict{recovered: a.probe}
	case a.probe:
		return verdict{failed: failure}
	case errors.Is(failure, errTooLong) && q.hosts.spares(q.hostList(), a.started):
		return verdict{} // the time was over at one host: the next call-out goes to another
	case !q.up(), a.ended.Sub(q.lastAnswer) < recentSuccess && len(q.running)+len(q.calling) > 0:
		// Known, or the host wants fewer of us.
		return verdict{}
	}
	return verdict{failed: failure}
}

// tooLong reports whether a dialogue was cut off for its length.
func tooLong(r smtpout.Result) bool {
	return len(r.Outcomes) > 0 && r.Outcomes[0].Failure != nil && errors.Is(r.Outcomes[0].Failure, errTooLong)
}

// conclude is what a call-out says of its recipient and its domain, and the event
// that records it; none where it says nothing.
func (s *Scheduler) conclude(c *callout) (answer, *pb.RecipientVerified) {
	failure := c.failure
	if failure == nil && len(c.result.Outcomes) > 0 {
		failure = c.result.Outcomes[0].Failure
	}
	settings, now := s.cfg.State.Settings(), s.cfg.Now()
	event := &pb.RecipientVerified{
		LocalPart: c.local, Domain: c.domain, Destination: c.queue, Revision: c.config.Revision,
	}
	switch {
	case c.skipped || failure != nil && interrupted(failure):
		return answer{err: errInterrupted}, nil
	case failure == nil:
		event.Verdict, event.Until = pb.Verdict_VERDICT_VALID, now.Add(settings.VerifyValid).UnixNano()
	case c.refuses(failure):
		event.Verdict, event.Until = pb.Verdict_VERDICT_INVALID, now.Add(settings.VerifyInvalid).UnixNano()
		event.Failure = failureRecord(failure)
	default:
		return answer{err: failure}, nil
	}
	if event.DomainVerdict = c.ofDomain(); event.DomainVerdict != pb.Verdict_VERDICT_UNSPECIFIED {
		event.DomainUntil = now.Add(settings.VerifyInvalid).UnixNano()
	}
	if event.DomainVerdict == pb.Verdict_VERDICT_ACCEPTS_ANY {
		return answer{said: Said{Verdict: pb.Verdict_VERDICT_ACCEPTS_ANY}}, event
	}
	return answer{said: Said{Verdict: event.Verdict, Failure: event.Failure}}, event
}

// refuses reports whether a failure is the destination's word that there is no such
// recipient. While 5xx are held (R3) that is no word to go by.
func (c *callout) refuses(f *relay.Failure) bool {
	return f.Phase == relay.PhaseRcpt && relay.RefusesRecipient(f.Code, f.Enhanced) && !c.config.HoldRejected
}

// ofDomain is what the stranger's answer says of the domain: a 4xx says nothing.
func (c *callout) ofDomain() pb.Verdict {
	if c.stranger == "" || len(c.result.Outcomes) < 2 {
		return pb.Verdict_VERDICT_UNSPECIFIED
	}
	switch failure := c.result.Outcomes[1].Failure; {
	case failure == nil && c.result.Outcomes[0].Failure == nil:
		return pb.Verdict_VERDICT_ACCEPTS_ANY
	case failure != nil && c.refuses(failure):
		return pb.Verdict_VERDICT_SELECTIVE
	}
	return pb.Verdict_VERDICT_UNSPECIFIED
}
