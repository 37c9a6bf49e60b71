package delivery

import (
	"context"
	"maps"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	"holdfast/relay"
)

// callOut starts call-outs while there are slots for them. A client waits for each,
// so they go before mail; where one would take the last slot, mail that waits for it
// goes between two of them.
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
		if !probe && (!q.mayCallOut(s.cfg.Now()) || s.freePlaces(q) <= 0 || s.isMailsTurn(q)) {
			return // what ends comes back here
		}
		q.toAsk = q.toAsk[1:]
		s.startCallout(q, c, probe)
	}
}

// mayCallOut keeps call-outs to their share. Where the destination hasn't answered
// lately that is one: a burst against its own limit of connections would look like an
// outage. Those to hosts that it had before don't count, they may hang.
func (q *queue) mayCallOut(now time.Time) bool {
	places, taken := max(1, q.slots()/calloutShare), 0
	if now.Sub(q.lastAnswer) >= recentSuccess {
		places = 1
	}
	for c := range q.calling {
		if c.revision == q.revision {
			taken++
		}
	}
	return taken < places
}

// isMailsTurn reports whether the last slot is mail's that could have it now, since a
// call-out had the one before.
func (s *Scheduler) isMailsTurn(q *queue) bool {
	if !q.askedLast || s.freePlaces(q) > 1 {
		return false
	}
	for l := range fsm.Lanes {
		if len(q.lanes[l].ready) > 0 && s.freeSlots(q, l) > 0 {
			return true
		}
	}
	return false
}

// mayProbeByCallout: a destination that is down is probed by a message, or, where
// none waits, by a call-out: it would else stay down until one came, and none would
// come, since its recipients can't be verified.
func (s *Scheduler) mayProbeByCallout(q *queue) bool {
	if q.probing() || q.proposed || s.cfg.State.Probing(q.name) || s.cfg.Now().Before(time.Unix(0, q.record.Health.NextProbe)) {
		return false
	}
	first, err := s.longestWaiting(q)
	if err != nil {
		s.log.Error("read queue", "destination", q.name, "error", err)
	}
	return err == nil && (first == nil || first.unreadable || q.silent)
}

// probeAlone probes a destination for which nothing waits and nobody is asked for: it
// would be shown as down, and those who come next told so, however long it has been
// back. Any reply to MAIL proves it up, whatever it says of the recipient; but a host that
// answers that with 421, hangs up or says nothing fails as it would for a message.
func (s *Scheduler) probeAlone(q *queue) {
	if len(q.callouts) > 0 || s.cfg.State.Probing(q.name) {
		return // its end comes back here
	}
	c := s.nobody(q)
	q.callouts[c.address] = c
	s.startCallout(q, c, true)
}

// nobody is who is asked for where nobody is: a stranger of one of the destination's
// domains. Where it has none, or those of others, it is the recipient without a domain
// that every server knows (RFC 5321 section 4.5.1).
func (s *Scheduler) nobody(q *queue) *callout {
	for _, domain := range s.cfg.State.Domains() {
		if domain.Destination == q.name && domain.Name != relay.DefaultRoute {
			return &callout{domain: domain.Name, address: s.stranger(domain.Name)}
		}
	}
	return &callout{address: "postmaster"}
}

func (s *Scheduler) startCallout(q *queue, c *callout, probe bool) {
	ctx, cancel := context.WithTimeoutCause(s.attempts, s.cfg.Timing.Callout, errTooLong)
	c.attempt = &attempt{
		queue: q.name, probe: probe, probes: q.record.Health.Probes, cancel: cancel,
		config: q.record.Config, trouble: maps.Clone(q.hosts), revision: q.revision, conn: q.takeConn(),
	}
	domain, _ := s.cfg.State.Domain(c.domain)
	c.domainRevision = domain.GetRevision()
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
