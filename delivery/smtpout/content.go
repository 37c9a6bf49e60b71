package smtpout

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"holdfast/relay"
)

const (
	maxBlock    = 32 << 10  // content read for one write of DATA
	maxChunk    = 256 << 10 // content of one BDAT
	chunkWindow = 4         // chunks whose replies are outstanding
	keepBuffer  = 64 << 10  // of which an idle connection keeps its buffer
)

// data sends the content with DATA (RFC 5321 section 4.1.1.4).
func (d *delivery) data() {
	c := d.c
	if len(c.pending) == 0 && d.taken == 0 {
		return
	}
	begin := len(c.out)
	c.out = append(c.out, "DATA\r\n"...)
	c.traceCommand(begin)
	d.expect(data, 0)
	if d.settle(); !d.goAhead {
		return
	}
	if d.taken == 0 {
		if !c.broken {
			// 354 without a valid recipient: nothing but the end may follow (RFC 2920
			// section 3.1). What the peer says to that changes nothing.
			_, _ = c.ask(".\r\n", c.timeouts.Dot)
		}
		return
	}
	d.stream()
}

// stream sends the content in blocks and reads the last reply.
func (d *delivery) stream() {
	c := d.c
	body, err := d.t.Body()
	if err != nil {
		d.withdraw(err)
		return
	}
	defer body.Close()
	// One octet more than Size finds the end in the same go.
	size := int(min(d.t.Size+1, maxBlock))
	c.in = slices.Grow(c.in[:0], size)
	in := c.in[:size]
	stuffer := newStuffer()
	for sent := int64(0); ; {
		n, err := fill(body, in)
		end := err == io.EOF //nolint:errorlint // a wrapped io.EOF is an error of the body, not its end
		if sent += int64(n); err == nil || end {
			err = d.checkLength(sent, end)
		}
		if err == nil {
			c.out, err = stuffer.append(c.out, in[:n])
		}
		if err != nil {
			d.withdraw(err)
			return
		}
		if end {
			break
		}
		if c.write(c.timeouts.Block) != nil || d.interrupted() {
			// What the peer says now can only be a refusal, and DATA has no way to
			// break off but the connection's end.
			d.expect(block, 0)
			d.await(0)
			c.broken = true
			c.Abort()
			return
		}
	}
	c.out = stuffer.end(c.out)
	d.commit()
	d.expect(final, 0)
	d.await(0)
}

// interrupted reports whether the peer says something in the middle of the
// content. Within TLS it could be other than a reply, so there only a failed
// write makes us listen.
func (d *delivery) interrupted() bool {
	return d.c.stream == d.c.tcp && (d.c.r.Buffered() > 0 || readable(d.c.tcp))
}

// withdraw fails the transaction for its body and resets the connection, as
// nothing else ends DATA without ending the message.
func (d *delivery) withdraw(err error) { d.end(d.bodyFailure(err)) }

func (d *delivery) bodyFailure(err error) *relay.Failure {
	f := d.c.failure(relay.PhaseData, fmt.Errorf("%w: %w", ErrBody, err))
	f.Cause, f.Own, f.Text = relay.CauseDeferred, true, printable(f.Err.Error())
	return f
}

// commit writes the last octets of the content.
func (d *delivery) commit() {
	if d.c.write(d.c.timeouts.Block) == nil {
		d.c.setContent(complete)
	}
}

// chunks sends the content with BDAT (RFC 3030): a message of one chunk in the
// same flight as its envelope, a longer one with the LAST chunk held back until
// all others are taken.
func (d *delivery) chunks() {
	c := d.c
	if len(c.pending) == 0 && d.taken == 0 {
		return
	}
	body, err := d.t.Body()
	if err != nil {
		d.spare(err)
		return
	}
	defer body.Close()
	for left, first := d.t.Size, true; ; first = false {
		n := min(left, maxChunk)
		last := n == left
		if last && !first && !d.await(0) {
			return
		}
		if err := d.appendChunk(body, int(n), last); err != nil {
			d.spare(err)
			return
		}
		if last {
			d.expect(final, 0)
			d.commit()
			d.await(0)
			return
		}
		left -= n
		d.expect(block, 0)
		// Where this fails, the replies still tell why.
		_ = c.write(c.timeouts.Block)
		if !d.taking(first) {
			d.await(0)
			return
		}
	}
}

// taking reads the replies that are due after a chunk; false if the rest of
// the content is in vain.
func (d *delivery) taking(first bool) bool {
	window := chunkWindow
	switch {
	case !d.c.ext.pipelining:
		window = 0
	case first:
		window = 1 // the envelope's replies: maybe nobody wants the message
	}
	return d.await(window) && d.taken > 0
}

// spare fails the transaction for its body. Between chunks the dialogue is in
// step, so the connection stays.
func (d *delivery) spare(err error) {
	f := d.bodyFailure(err)
	if len(d.c.out) > 0 || len(d.c.pending) == 0 {
		d.c.out, d.c.pending = d.c.out[:0], d.c.pending[:0] // the flight never left
	} else {
		d.await(0)
	}
	d.failRest(f)
}

// appendChunk adds a BDAT command and its n octets to out; the last only if
// the body ends there, without an error.
func (d *delivery) appendChunk(body io.Reader, n int, last bool) error {
	c := d.c
	begin := len(c.out)
	c.out = strconv.AppendInt(append(c.out, "BDAT "...), int64(n), 10)
	if last {
		c.out = append(c.out, " LAST"...)
	}
	c.out = append(c.out, "\r\n"...)
	c.traceCommand(begin)
	head := len(c.out)
	c.out = slices.Grow(c.out, n+1)[:head+n]
	got, err := fill(body, c.out[head:])
	if err == nil && last {
		err = atEnd(body, c.out[head+n:head+n+1])
	}
	if err == io.EOF { //nolint:errorlint // a wrapped io.EOF is an error of the body, not its end
		err = d.checkLength(d.t.Size-int64(n-got), true)
	}
	if err != nil {
		c.out = c.out[:begin]
	}
	return err
}

// checkLength compares what the body has given with what was announced.
func (d *delivery) checkLength(got int64, end bool) error {
	switch {
	case got > d.t.Size:
		return fmt.Errorf("longer than its %d octets", d.t.Size)
	case end && got < d.t.Size:
		return fmt.Errorf("ends before its %d octets", d.t.Size)
	}
	return nil
}

// atEnd wants io.EOF of a body that has given all its octets.
func atEnd(body io.Reader, spare []byte) error {
	n, err := fill(body, spare)
	switch {
	case n > 0:
		return errors.New("longer than announced")
	case err == io.EOF: //nolint:errorlint // a wrapped io.EOF is an error of the body, not its end
		return nil
	}
	return err
}

// fill reads until p is full or the reader ends or fails. Other than
// io.ReadFull it passes every error on as it is: io.ErrUnexpectedEOF is a
// body's own way to say that it was cut short.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	if n == len(p) && err == io.EOF && n > 0 {
		err = nil // found again by the next read
	}
	return n, err
}

// shrink lets a connection that waits for its next message keep little.
func (c *Conn) shrink() {
	if cap(c.out) > keepBuffer {
		c.out = nil
	}
}
