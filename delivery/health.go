package delivery

import (
	"cmp"
	"context"
	"errors"
	"syscall"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// verdict is what an attempt says of its destination.
type verdict struct {
	failed    *relay.Failure // the destination can't take mail
	passedOn  bool           // it may: this node can't read what another may deliver
	refuses   bool           // the host's 4xx says nothing of this message
	recovered bool           // it can again
	delay     time.Duration  // before recipients that met a host failure are due again
}

// hostFailure is the failure that says something of the host and nothing of
// the message, nil if there is none.
func (a *attempt) hostFailure() *relay.Failure {
	if a.failure != nil {
		if a.failure.Class() == relay.PermanentFailure {
			return nil
		}
		return a.failure
	}
	var first *relay.Failure
	for _, outcome := range a.result.Outcomes {
		switch {
		case outcome.Failure != nil && blamesHost(outcome.Failure):
			first = cmp.Or(first, outcome.Failure)
		case a.result.Answered:
			return nil
		}
		// Else it was refused on this side, and says as little for the host as against it.
	}
	return first
}

// blamesHost: besides what the class says, a peer that doesn't answer even MAIL
// is no host that takes mail, also where the whole message went out with MAIL in
// one flight, so that its recipients are in doubt. An attempt that was cut off
// for its length says nothing of the host.
func blamesHost(f *relay.Failure) bool {
	if errors.Is(f, errTooLong) {
		return false
	}
	return f.Class() == relay.HostFailure || f.InDoubt && f.Phase == relay.PhaseMail
}

// judge takes an ended attempt off its connection, decides what it says of the
// destination, and has its outcome proposed. The slot stays taken until that is
// in the log: no more mail can be doubled by a crash than there are slots.
func (s *Scheduler) judge(a *attempt) {
	q := s.queues[a.queue]
	q.learn(a)
	s.keep(q, a) // unless there was trouble, as of now
	var v verdict
	if !a.skipped && !a.wasInterrupted() {
		v = s.verdictOn(q, a)
	}
	s.metrics.observe(a)
	if a.probe {
		s.metrics.probed(v)
	}
	s.start(func() func() {
		s.settle(a, v)
		return func() {
			// What it has changed comes before what may begin in its place.
			s.absorb(s.cfg.State.TakeChanges())
			s.release(a)
		}
	})
}

func (s *Scheduler) verdictOn(q *queue, a *attempt) verdict {
	failure := a.hostFailure()
	switch {
	case a.failure != nil && isShort(a.failure):
		return s.verdictOnShortage(q, a)
	case failure == nil && a.isSilent():
		return s.verdictOnSilence(q, a)
	case failure == nil:
		return s.verdictOnAnswer(q, a)
	case a.probe:
		return verdict{failed: failure}
	case !q.up():
		return verdict{} // the outage is known
	case a.ended.Sub(q.lastAnswer) < recentSuccess && (q.limit > 1 || len(q.running)+len(q.calling) > 1):
		// The host talks to others of us at this moment: it wants fewer. There
		// is no fewer than one, and all that waits would fail in a row.
		q.congested()
		return verdict{delay: s.cfg.Timing.HostDelay}
	}
	return verdict{failed: failure}
}

// isShort: this process has as many files open as it may, which says nothing of any host.
func isShort(f *relay.Failure) bool {
	return errors.Is(f, syscall.EMFILE) || errors.Is(f, syscall.ENFILE)
}

// verdictOnShortage leaves the destination as it is, and has its mail wait a little.
func (s *Scheduler) verdictOnShortage(q *queue, a *attempt) verdict {
	q.pause = a.ended.Add(s.cfg.Timing.HostDelay)
	return verdict{delay: s.cfg.Timing.HostDelay}
}

// isSilent reports whether an attempt ended before the host said anything to MAIL, and
// not by the host's doing: what the host doesn't offer, or a body that can't be read.
// That a name takes no mail (RFC 7505) is an answer.
func (a *attempt) isSilent() bool { return a.failure == nil && !a.result.Answered }

// verdictOnSilence: a probe that said nothing to the host ends no outage.
func (s *Scheduler) verdictOnSilence(q *queue, a *attempt) verdict {
	if a.probe {
		q.silent = true
		return verdict{failed: q.outage(a)}
	}
	return s.passOn(q, a, verdict{delay: s.cfg.Timing.HostDelay})
}

// verdictOnAnswer: any reply to MAIL proves the host up; only what it takes makes room
// for more.
func (s *Scheduler) verdictOnAnswer(q *queue, a *attempt) verdict {
	if a.result.Answered {
		q.lastAnswer = a.ended
	}
	if a.result.Accepted() > 0 {
		q.succeeded(a.ended)
	}
	if v, refuses := s.verdictOnRefusal(q, a); refuses {
		return v
	}
	return s.passOn(q, a, verdict{recovered: a.probe, delay: s.cfg.Timing.HostDelay})
}

// verdictOnRefusal: a host that gives message after message the same 4xx can't
// take mail; the destination can't where no other host is left.
func (s *Scheduler) verdictOnRefusal(q *queue, a *attempt) (v verdict, refuses bool) {
	refusal := a.refusal()
	full := q.refusals.learn(a, refusal)
	switch {
	case a.probe && goesOn(q.record.Health.Failure, refusal):
		return verdict{failed: refusal, refuses: true}, true
	case a.probe || !full:
		return verdict{}, false
	}
	q.hosts[a.result.Host] = a.ended
	s.closeConns(q, q.takeHost(a.result.Host))
	v = verdict{refuses: true, delay: s.cfg.Timing.HostDelay}
	if q.up() && !q.hosts.spares(q.hostList(), a.ended) {
		v = verdict{refuses: true, failed: refusal}
	}
	return v, true
}

// nextProbe doubles the time between probes from 5 s to the destination's most.
func (s *Scheduler) nextProbe(health *pb.DestinationHealth, config *pb.DestinationConfig) time.Time {
	longest := defaultProbeMax
	if config.GetProbeMax() > 0 {
		longest = time.Duration(config.ProbeMax)
	}
	interval := firstProbe
	// The second opinion comes at once, so doubling begins after it.
	for failed := health.GetFailed(); failed > 1; failed-- {
		interval = min(2*interval, longest)
	}
	interval = min(interval, longest)
	jitter := time.Duration(float64(interval) * probeJitter * (2*s.cfg.Chance() - 1))
	return s.cfg.Now().Add(interval + jitter)
}

// release frees the slot of an attempt whose outcome is settled.
func (s *Scheduler) release(a *attempt) {
	q := s.queues[a.queue]
	delete(q.running, a.number)
	q.lanes[a.lane].running--
	s.running[a.lane]--
	s.metrics.running.Dec()
	s.markDirty(q.name)
	for l := range fsm.Lanes {
		s.giveTurn(l)
	}
}

// wasInterrupted reports whether the attempt ended by our own doing.
func (a *attempt) wasInterrupted() bool {
	if a.failure != nil {
		return interrupted(a.failure)
	}
	for _, outcome := range a.result.Outcomes {
		if outcome.Failure != nil && interrupted(outcome.Failure) {
			return true
		}
	}
	return false
}

func (a *attempt) takeConn() *smtpout.Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	conn := a.conn
	a.conn = nil
	return conn
}

// interrupted reports whether a failure is our own doing: a lost lease, a stop.
// It says nothing of the host or the message.
func interrupted(f *relay.Failure) bool {
	return errors.Is(f, smtpout.ErrAborted) || errors.Is(f, context.Canceled) || errors.Is(f, errLeaseLost)
}

func inDoubt(r smtpout.Result) bool {
	for _, outcome := range r.Outcomes {
		if outcome.Failure != nil && outcome.Failure.InDoubt {
			return true
		}
	}
	return false
}
