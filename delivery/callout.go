package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

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
	// domainRevision is the domain's as of the beginning.
	domainRevision uint64
	address        string
	stranger       string // an address that nobody has; "" where the domain is known
	asking         []question
	over           bool // said is what it came to
	said           answer
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
	if c := q.callouts[asked.address]; c != nil && s.answers(c, asked) {
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

// answers reports whether a dialogue is the one to wait for: not where domain or
// destination have changed since it began, nor, for who wants it anew, where it has
// begun at all, and never a probe that nobody has asked for.
func (s *Scheduler) answers(c *callout, asked question) bool {
	return c.local != "" && (c.attempt == nil || !asked.anew && s.stands(c))
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
