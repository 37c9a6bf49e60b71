package smtpout

import (
	"context"
	"errors"
	"fmt"

	"holdfast/relay"
)

// fit fails what this peer can't take, before anything is sent, and lists the
// recipients that are left.
func (d *delivery) fit(ctx context.Context) (left []int) {
	if err := d.lighten(ctx); err != nil {
		d.failRest(d.bodyFailure(err))
		return nil
	}
	if f := d.c.unfit(d.t); f != nil {
		d.failRest(f)
		return nil
	}
	for i := range d.t.Recipients {
		f := d.c.unfitRecipient(&d.t.Recipients[i])
		if d.result.Outcomes[i].Failure = f; f == nil {
			left = append(left, i)
		}
	}
	return left
}

// lots makes one transaction after the other, each with as many recipients as the peer
// takes at a time, until all have had theirs. Whoever can't have one on this connection
// any more is to come again, and has had no attempt.
func (c *Conn) lots(left []int, whole *delivery, run func(*delivery)) {
	c.setLast(false)
	for again := false; len(left) > 0; again = true {
		n := len(left)
		if limit := c.ext.maxRecipients; limit > 0 {
			n = min(n, limit)
		}
		d := &delivery{c: c, t: whole.t, result: whole.result, lot: left[:n], again: again}
		d.transact(run)
		left = append(d.surplus(), left[n:]...)
		if len(left) == 0 {
			return
		}
		if f := d.forOthers(); f != nil {
			whole.lot = left
			whole.failRest(f)
			return
		}
	}
}

// surplus are the recipients that were too many for the transaction: others were taken,
// so that the next one has room for some of them (RFC 5321 section 4.5.3.1.10).
func (d *delivery) surplus() (left []int) {
	if !d.served {
		return nil
	}
	for _, i := range d.lot {
		if outcome := &d.result.Outcomes[i]; outcome.Failure != nil && tooMany(outcome.Failure) {
			*outcome = Outcome{}
			left = append(left, i)
		}
	}
	return left
}

// tooMany reports whether a reply to RCPT says that the transaction has no room for
// more recipients: 452, or what RFC 821 had for it.
func tooMany(f *relay.Failure) bool {
	if f.Phase != relay.PhaseRcpt {
		return false
	}
	return f.Code == 452 && (f.Enhanced == "" || f.Enhanced == "4.5.3") || f.Code == 552 && f.Enhanced == "5.5.3"
}

// forOthers is what the transaction came to for the message's other recipients; nil
// where they can have the next one.
func (d *delivery) forOthers() *relay.Failure {
	c, f := d.c, d.failure
	switch {
	case c.isLast():
		return c.failure(relay.PhaseMail, ErrAborted)
	case f == nil, f.InDoubt, errors.Is(f, context.DeadlineExceeded):
	case errors.Is(f, ErrBody), f.Phase == relay.PhaseMail && f.Code != 0, f.Class() == relay.HostFailure:
		return f // that doesn't depend on who the recipients are
	}
	if c.Alive() {
		return nil
	}
	if f == nil {
		f = c.ownFailure(relay.PhaseRcpt, 452, "4.5.3", fmt.Sprintf("the next hop takes %d recipients on a connection", len(d.lot)))
	}
	others := *f
	others.InDoubt, others.Untried = false, true
	return &others
}

func (c *Conn) setLast(last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = last
}

func (c *Conn) isLast() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
