package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/delivery/smtpout"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Why a destination can't say now whether it takes a recipient.
var (
	errNotOwner       = errors.New("its destination has just gone to another node")
	errDestination    = errors.New("its destination is down")
	errSuspended      = errors.New("its destination is suspended")
	errBusy           = errors.New("too many recipients are being verified at once")
	errNotRouted      = errors.New("its domain has just been changed")
	errChanged        = errors.New("its destination has just been changed")
	errInterrupted    = errors.New("the node that asked its destination was interrupted")
	errCalloutStopped = errors.New("the node is stopping")
)

const (
	// calloutShare is the part of a destination's slots that call-outs may take.
	calloutShare = 4
	// maxCallouts are under way and waiting at a destination; who asks for one more is
	// told to come again.
	maxCallouts = 200
)

// Said is what is known of a recipient: VALID, INVALID with the refusal, or
// ACCEPTS_ANY, where its destination takes any recipient of the domain.
type Said struct {
	Verdict pb.Verdict
	Failure *pb.Failure
}

// question is one who asks for a recipient, and waits for the answer until ctx ends.
type question struct {
	destination, address string
	anew                 bool
	ctx                  context.Context
	answer               chan<- answer
}

type answer struct {
	said Said
	err  error
}

// callout is the dialogue about one recipient, for all who ask for it meanwhile.
type callout struct {
	*attempt
	domain, local string
	address       string
	stranger      string // an address that nobody has; "" where the domain is known
	asking        []question
	over          bool // said is what it came to
	said          answer
}

// Ask asks a destination of this node whether it takes mail to an address, unless
// that is known and it isn't to be asked anew. An error says why it isn't known now;
// ctx ends the wait, not the call-out.
func (s *Scheduler) Ask(ctx context.Context, destination, address string, anew bool) (Said, error) {
	answers := make(chan answer, 1)
	select {
	case s.asked <- question{destination: destination, address: address, anew: anew, ctx: ctx, answer: answers}:
	case <-s.deaf:
		return Said{}, errCalloutStopped
	case <-ctx.Done():
		return Said{}, context.Cause(ctx)
	}
	select {
	case a := <-answers:
		return a.said, a.err
	case <-ctx.Done():
		return Said{}, context.Cause(ctx)
	}
}

// hear answers a question, or has it wait for a call-out.
func (s *Scheduler) hear(asked question) {
	// Who asks goes by the state, which may be ahead of what was absorbed.
	s.absorb(s.cfg.State.TakeChanges())
	q := s.queues[asked.destination]
	if !s.mayAct() || q == nil || !q.owned {
		asked.answer <- answer{err: errNotOwner}
		return
	}
	if c := q.callouts[asked.address]; c != nil && c.answers(asked, q.revision) {
		c.join(asked)
		return
	}
	c, known, err := s.newCallout(q, asked)
	switch {
	case err != nil:
		asked.answer <- answer{err: err}
		return
	case known != nil:
		asked.answer <- answer{said: *known}
		return
	}
	q.callouts[asked.address] = c
	q.toAsk = append(q.toAsk, c)
	s.markDirty(q.name)
}

// answers reports whether a dialogue is the one to wait for: not where it was begun
// with hosts that are no longer the destination's, nor, for who wants it anew, where it
// was begun at all.
func (c *callout) answers(asked question, revision int) bool {
	return c.attempt == nil || c.revision == revision && !asked.anew
}

func (c *callout) join(asked question) {
	if c.over {
		asked.answer <- c.said
		return
	}
	c.asking = append(c.asking, asked)
}

// newCallout is the dialogue that a question needs; known is the answer where it
// needs none.
func (s *Scheduler) newCallout(q *queue, asked question) (c *callout, known *Said, err error) {
	if q.record.Suspended != nil {
		return nil, nil, errSuspended
	}
	local, _, err := relay.SplitAddress(asked.address)
	domain := relay.RelayDomain(asked.address)
	config, ok := s.cfg.State.Domain(domain)
	if err != nil || !ok || config.Destination != q.name {
		return nil, nil, errNotRouted
	}
	if s.tooManyCallouts(q, domain) {
		return nil, nil, errBusy
	}
	c = &callout{domain: domain, local: local, address: asked.address, asking: []question{asked}}
	ofDomain, err := s.cfg.State.Verified(domain, "", s.cfg.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("read what is known of %s: %w", domain, err)
	}
	if ofDomain == nil || asked.anew {
		c.stranger = s.stranger(domain)
	}
	if asked.anew {
		return c, nil, nil
	}
	if ofDomain.GetVerdict() == pb.Verdict_VERDICT_ACCEPTS_ANY {
		return nil, &Said{Verdict: pb.Verdict_VERDICT_ACCEPTS_ANY}, nil
	}
	record, err := s.cfg.State.Verified(domain, local, s.cfg.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("read what is known of %s: %w", asked.address, err)
	}
	if record != nil {
		return nil, &Said{Verdict: record.Verdict, Failure: record.Failure}, nil
	}
	return c, nil, nil
}

// tooManyCallouts: a destination has so many at a time, and no domain of several takes
// more than half of them. Those that nobody waits for any more don't count.
func (s *Scheduler) tooManyCallouts(q *queue, domain string) bool {
	if len(q.callouts) >= maxCallouts/2 {
		s.forsake(q)
	}
	ofDomain := 0
	for _, c := range q.callouts {
		if c.domain == domain {
			ofDomain++
		}
	}
	return len(q.callouts) >= maxCallouts || ofDomain >= maxCallouts/2
}

// forsake drops call-outs that haven't begun and that nobody waits for any more.
func (s *Scheduler) forsake(q *queue) {
	q.toAsk = slices.DeleteFunc(q.toAsk, func(c *callout) bool {
		waits := slices.ContainsFunc(c.asking, func(asked question) bool { return asked.ctx.Err() == nil })
		if !waits {
			q.recorded(c)
		}
		return !waits
	})
}

// strangerFor is how long a destination is asked for the same stranger: one that
// greylists knows it when it is asked again.
const strangerFor = 6 * time.Hour

// stranger is an address of the domain that nobody has: a destination that takes it
// takes any. It has no delimiter, after which it might be a user's sub-address.
func (s *Scheduler) stranger(domain string) string {
	period := s.cfg.Now().Truncate(strangerFor).Unix()
	name := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", s.incarnation, period, domain))
	return "holdfast" + hex.EncodeToString(name[:12]) + "@" + domain
}

// callOut starts call-outs while there are slots for them. A client waits for each,
// so they go before mail; where the slots are so few that a call-out would take all,
// mail that waits goes between two of them.
func (s *Scheduler) callOut(q *queue) {
	s.forsake(q)
	for len(q.toAsk) > 0 {
		c := q.toAsk[0]
		probe := !q.up()
		if probe && !s.mayProbeByCallout(q) {
			q.toAsk = q.toAsk[1:]
			c.tell(answer{err: errDestination})
			q.recorded(c)
			continue
		}
		if !probe && (len(q.calling) >= max(1, q.slots()/calloutShare) || q.askedLast && q.hasReady() || s.freePlaces(q) <= 0) {
			return // what ends comes back here
		}
		q.toAsk = q.toAsk[1:]
		s.startCallout(q, c, probe)
	}
}

// mayProbeByCallout: a destination that is down is probed by a message, or, where
// none waits, by a call-out: it would else stay down until one came, and none would
// come, since its recipients can't be verified.
func (s *Scheduler) mayProbeByCallout(q *queue) bool {
	if q.probing() || q.proposed || s.cfg.Now().Before(time.Unix(0, q.record.Health.NextProbe)) {
		return false
	}
	first, _, err := s.longestWaiting(q)
	if err != nil {
		s.log.Error("read queue", "destination", q.name, "error", err)
	}
	return first == nil && err == nil
}

// probeAlone probes a destination for which nothing waits and nobody is asked for: it
// would be shown as down, and those who come next told so, however long it has been
// back. Any reply to MAIL proves it up, whatever it says of the stranger.
func (s *Scheduler) probeAlone(q *queue) {
	if len(q.callouts) > 0 {
		return // its end comes back here
	}
	for _, domain := range s.cfg.State.Domains() {
		if domain.Destination != q.name || domain.Name == relay.DefaultRoute {
			continue
		}
		c := &callout{domain: domain.Name, address: s.stranger(domain.Name)}
		q.callouts[c.address] = c
		s.startCallout(q, c, true)
		return
	}
}

func (s *Scheduler) startCallout(q *queue, c *callout, probe bool) {
	ctx, cancel := context.WithTimeoutCause(s.attempts, s.cfg.Timing.Callout, errTooLong)
	c.attempt = &attempt{
		queue: q.name, probe: probe, probes: q.record.Health.Probes, cancel: cancel,
		config: q.record.Config, trouble: maps.Clone(q.hosts), revision: q.revision, conn: q.takeConn(),
	}
	q.calling[c] = true
	q.askedLast = true
	recipients := []string{c.address}
	if c.stranger != "" {
		recipients = append(recipients, c.stranger)
	}
	s.start(func() func() {
		defer cancel()
		c.started = s.cfg.Now()
		s.reach(ctx, c.attempt, func(conn *smtpout.Conn) smtpout.Result {
			// RFC 5321 section 3.3: who refuses the null sender refuses every report.
			return conn.Verify(ctx, "", recipients)
		})
		c.ended = s.cfg.Now()
		return func() { s.judgeCallout(c) }
	})
}

// judgeCallout answers all who wait, and has what was found out recorded. Until it
// is, who asks gets the same answer.
func (s *Scheduler) judgeCallout(c *callout) {
	q := s.queues[c.queue]
	delete(q.calling, c)
	s.keep(q, c.attempt)
	q.learn(c.attempt)
	var v verdict
	if !c.skipped && !c.wasInterrupted() {
		v = s.verdictOnCallout(q, c.attempt)
	}
	if c.probe {
		s.metrics.probed(v)
	}
	said, event := s.conclude(c)
	if c.revision != q.revision {
		// Its hosts aren't the destination's any more: what they say refuses nobody.
		said, event = answer{err: errChanged}, nil
	}
	if c.local != "" {
		s.metrics.calledOut(said)
	}
	c.tell(said)
	s.markDirty(q.name)
	s.start(func() func() {
		s.settleHealth(c.attempt, v)
		if event != nil {
			s.record(event, c.ended)
		}
		return func() {
			q.recorded(c)
			s.markDirty(q.name)
		}
	})
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
	case a.failure == nil && tooLong(a.result):
		// That says nothing of the host, but as a probe it isn't one that came back.
		if !a.probe {
			return verdict{}
		}
		return verdict{failed: a.result.Outcomes[0].Failure}
	case failure == nil && a.probe && goesOn(q.record.Health.Failure, a.refusal()):
		return verdict{failed: a.refusal(), refuses: true}
	case failure == nil:
		q.lastAnswer = a.ended
		return verdict{recovered: a.probe}
	case a.probe:
		return verdict{failed: failure}
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
	case c.local == "" && failure == nil:
		return answer{said: Said{Verdict: pb.Verdict_VERDICT_ACCEPTS_ANY}}, nil // probeAlone
	case failure == nil:
		event.Verdict, event.Until = pb.Verdict_VERDICT_VALID, now.Add(settings.VerifyValid).UnixNano()
	case c.local == "":
		return answer{err: failure}, nil
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

// abortCallouts ends a destination's call-outs, begun or not.
func (s *Scheduler) abortCallouts(q *queue, why error) {
	s.dismiss(q, why)
	for c := range q.calling {
		c.abortUnlessCommitted()
	}
}

// dismiss answers those who wait for a call-out that hasn't begun and won't here.
func (s *Scheduler) dismiss(q *queue, why error) {
	for _, c := range q.toAsk {
		c.tell(answer{err: why})
		q.recorded(c)
	}
	q.toAsk = nil
}
