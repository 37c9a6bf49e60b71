package smtpout

import (
	"context"
	"errors"
	"time"

	"holdfast/relay"
)

// maxFlight bounds the replies that are awaited at once. A peer that doesn't
// read on before its replies are taken would else stop both sides (RFC 2920
// section 3.1); a hundred replies fit any socket's buffer.
const maxFlight = 100

// errUnusable is Send's answer on a connection that isn't Reusable.
var errUnusable = errors.New("connection can't be used any more")

// delivery is one transaction under way.
type delivery struct {
	c       *Conn
	t       *Transaction
	result  *Result
	lot     []int // the recipients that it is for, as numbers of t.Recipients
	again   bool  // others of the message had a transaction on this connection before
	reused  bool
	asking  bool           // a call-out: no content follows
	failure *relay.Failure // the first that all recipients had which were left then
	served  bool           // a recipient was accepted by RCPT, whatever came of it
	next    int            // first of c.pending whose reply is still to be read
	replies int            // read so far
	taken   int            // recipients accepted by RCPT and not failed since
	goAhead bool           // DATA was answered with 354
	over    bool           // MAIL or content refused, or the connection lost
}

// step is one awaited reply.
type step struct {
	kind kind
	rcpt int // index, for RCPT
}

type kind int

const (
	reset kind = iota
	mail
	rcpt
	data  // to the DATA command
	block // before the content is complete: to a chunk, or out of turn
	final // to the complete content
)

func (k kind) phase() relay.Phase {
	switch k {
	case rcpt:
		return relay.PhaseRcpt
	case data, block:
		return relay.PhaseData
	case final:
		return relay.PhaseDot
	}
	return relay.PhaseMail
}

func (c *Conn) limit(k kind) time.Duration {
	switch k {
	case reset:
		return c.timeouts.Hello
	case mail:
		return c.timeouts.Mail
	case rcpt:
		return c.timeouts.Rcpt
	case data:
		return c.timeouts.DataInit
	case block:
		return c.timeouts.Block
	}
	return c.timeouts.Dot
}

// Send carries one message, in as many transactions as the peer's limit of
// recipients asks for. The end of ctx interrupts it at once and leaves the
// connection unusable; the failures then wrap ctx.Err() and its cause.
// Failure.InDoubt is set where the whole content was sent and no reply came.
func (c *Conn) Send(ctx context.Context, t Transaction) Result {
	return c.transact(ctx, &t, (*delivery).send)
}

// Verify asks with MAIL and RCPT whether the peer would take the recipients,
// and sends it nothing (a call-out).
func (c *Conn) Verify(ctx context.Context, from string, recipients []string) Result {
	t := Transaction{From: from, Recipients: make([]Recipient, len(recipients))}
	for i, address := range recipients {
		t.Recipients[i].Address = address
	}
	return c.transact(ctx, &t, (*delivery).ask)
}

func (c *Conn) transact(ctx context.Context, t *Transaction, run func(*delivery)) Result {
	result := Result{
		Outcomes: make([]Outcome, len(t.Recipients)), Host: c.host, Address: c.address, TLS: c.tlsVersion, DSN: c.ext.dsn,
	}
	whole := &delivery{c: c, t: t, result: &result, lot: make([]int, len(t.Recipients))}
	for i := range whole.lot {
		whole.lot[i] = i
	}
	left := whole.fit(ctx)
	if len(left) == 0 {
		return result
	}
	if c.broken {
		whole.failRest(c.failure(relay.PhaseMail, c.explain(errUnusable)))
		return result
	}
	release := c.bind(ctx)
	defer release()
	c.lots(left, whole, run)
	c.shrink()
	return result
}

// transact makes one transaction.
func (d *delivery) transact(run func(*delivery)) {
	c := d.c
	d.reused = c.transactions > 0
	c.transactions++
	c.out, c.pending = c.out[:0], c.pending[:0]
	if !c.dirty || d.reset() {
		run(d)
	}
	c.setContent(incomplete)
}

// reset ends what is left of a failed transaction on the peer's side.
func (d *delivery) reset() bool {
	d.c.out = append(d.c.out, "RSET\r\n"...)
	d.c.traceCommand(0)
	d.expect(reset, 0)
	if d.settle() {
		d.c.dirty = false
	}
	return !d.over
}

func (d *delivery) ask() {
	d.asking = true
	if d.envelope() {
		d.settle()
	}
}

func (d *delivery) send() {
	if !d.envelope() {
		return
	}
	if d.c.ext.chunking {
		d.chunks()
	} else {
		d.data()
	}
}

// envelope queues MAIL and RCPT, and writes them where no more can wait; false
// if the transaction is over already.
func (d *delivery) envelope() bool {
	c := d.c
	c.dirty = true
	c.out = appendMail(c.out, d.t, &c.ext)
	c.traceCommand(0)
	if !d.queue(mail, 0) {
		return false
	}
	utf8 := needsUTF8(d.t) && c.ext.utf8
	for _, i := range d.lot {
		begin := len(c.out)
		c.out = appendRcpt(c.out, &d.t.Recipients[i], &c.ext, utf8)
		c.traceCommand(begin)
		if !d.queue(rcpt, i) {
			return false
		}
	}
	return true
}

func (d *delivery) expect(k kind, recipient int) {
	d.c.pending = append(d.c.pending, step{k, recipient})
}

// queue lets a command wait in out for its flight; without PIPELINING, or with
// the flight full, all is sent and answered here.
func (d *delivery) queue(k kind, recipient int) bool {
	d.expect(k, recipient)
	if d.c.ext.pipelining && len(d.c.pending) < maxFlight {
		return true
	}
	return d.settle()
}

// settle writes what waits and reads all replies; false if the transaction is
// over.
func (d *delivery) settle() bool {
	if len(d.c.out) > 0 {
		// Where this fails, the replies still tell why.
		_ = d.c.write(d.c.timeouts.Mail)
	}
	return d.await(0)
}

// await reads replies until at most left are outstanding; false if the
// transaction is over. A refused transaction has its replies read all the
// same, so that the connection stays in step.
func (d *delivery) await(left int) bool {
	for len(d.c.pending)-d.next > left {
		s := d.c.pending[d.next]
		d.next++
		said, err := d.c.read(d.c.limit(s.kind))
		if err != nil {
			d.lose(s.kind.phase(), err)
			return false
		}
		d.replies++
		d.result.Answered = d.result.Answered || s.kind == mail
		if said.code == 421 {
			d.hungUp(s, said)
			return false
		}
		if err := d.answered(s, said); err != nil {
			d.lose(s.kind.phase(), err)
			return false
		}
	}
	if d.next == len(d.c.pending) {
		d.c.pending, d.next = d.c.pending[:0], 0
	}
	return !d.over
}
