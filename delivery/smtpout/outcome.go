package smtpout

import (
	"fmt"

	"holdfast/relay"
)

// answered takes one reply; an error is a breach of the protocol.
func (d *delivery) answered(s step, said reply) error {
	switch {
	case s.kind == data && said.code == 354:
		d.goAhead = true
		return nil
	case s.kind == data && !said.refused(),
		s.kind == reset && !said.positive(),
		s.kind == block && !d.c.ext.chunking && !said.refused(),
		!said.positive() && !said.refused():
		return unexpected(said)
	case s.kind == rcpt:
		d.recipientAnswered(s.rcpt, said)
		return nil
	case s.kind == final && said.positive():
		return d.delivered(said)
	case said.refused():
		if !d.over {
			d.failRest(d.c.refusal(s.kind.phase(), said))
		}
		d.over, d.taken = true, 0
	}
	return nil
}

func (d *delivery) recipientAnswered(i int, said reply) {
	outcome := &d.result.Outcomes[i]
	switch {
	case outcome.Failure != nil: // MAIL was refused
	case said.refused():
		outcome.Failure = d.c.refusal(relay.PhaseRcpt, said)
	default:
		d.taken++
		d.served = true
		if d.asking {
			outcome.Reply = said.relay()
		}
	}
}

// delivered gives the last reply to all recipients that are left.
func (d *delivery) delivered(said reply) error {
	if d.c.content != complete {
		// A peer that takes a message cut short. It is not what was accepted here.
		return fmt.Errorf("%w: %d before the content was complete", errProtocol, said.code)
	}
	reply := said.relay()
	for _, i := range d.lot {
		if d.result.Outcomes[i].Failure == nil {
			d.result.Outcomes[i].Reply = reply
		}
	}
	// No RSET is due: the peer has cleared its buffers (RFC 5321 section 4.1.1.4).
	d.c.dirty = false
	return nil
}

// lose ends the transaction together with its connection.
func (d *delivery) lose(phase relay.Phase, err error) {
	f := d.c.failure(phase, err)
	f.InDoubt = d.c.content == complete
	d.foundClosed(f, d.stale(f.Cause))
	d.end(f)
}

// hungUp is 421: the peer closes, and takes nothing that it hasn't answered.
func (d *delivery) hungUp(s step, said reply) {
	f := d.c.refusal(s.kind.phase(), said)
	d.foundClosed(f, d.reused && d.replies == 1)
	d.end(f)
}

// foundClosed: that the peer had ended the connection before says nothing of it. Where
// others of the message have their outcomes, those that are left come again alone.
func (d *delivery) foundClosed(f *relay.Failure, stale bool) {
	d.result.Stale = stale && !d.again
	f.Untried = stale && d.again && !f.InDoubt
}

func (d *delivery) end(f *relay.Failure) {
	d.failRest(f)
	d.over, d.taken = true, 0
	// A reset, not a close: a peer that takes an end of the stream for the end
	// of a message gets nothing to take.
	d.c.broken = true
	d.c.Abort()
}

// stale reports whether a lost connection was most likely closed while idle.
func (d *delivery) stale(cause relay.Cause) bool {
	return d.reused && d.replies == 0 && cause == relay.CauseClosed && !d.c.stopped()
}

// failRest gives a failure to all recipients that have none. One that was only asked
// for has its answer, whatever becomes of the next.
func (d *delivery) failRest(f *relay.Failure) {
	if d.failure == nil {
		d.failure = f
	}
	for _, i := range d.lot {
		outcome := &d.result.Outcomes[i]
		if outcome.Failure == nil && (!d.asking || outcome.Reply.Code == 0) {
			outcome.Reply, outcome.Failure = relay.Reply{}, f
		}
	}
}
