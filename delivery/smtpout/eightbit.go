package smtpout

import (
	"context"
	"io"
	"slices"
)

// lighten takes off what the content was declared as and isn't, where this peer doesn't
// offer what it would need. Clients declare 8BITMIME and SMTPUTF8 whatever they send;
// without an octet above 127 neither is needed (RFC 6152 section 3, RFC 6531 section
// 3.4).
func (d *delivery) lighten(ctx context.Context) error {
	t, e := d.t, &d.c.ext
	eightBit, utf8 := t.BodyType == Body8BitMIME && !e.eightBit, t.SMTPUTF8 && !e.utf8
	if t.Body == nil || !eightBit && !utf8 {
		return nil
	}
	plain, err := d.isPlain(ctx)
	if err != nil || !plain {
		return err
	}
	if eightBit {
		t.BodyType = BodyUnspecified
	}
	t.SMTPUTF8 = t.SMTPUTF8 && !utf8
	return nil
}

// isPlain looks for octets above 127. It reads on behind the first one: whether that
// is what was accepted, or damage, is known only at the end.
func (d *delivery) isPlain(ctx context.Context) (bool, error) {
	body, err := d.t.Body()
	if err != nil {
		return false, err
	}
	defer body.Close()
	c, plain := d.c, true
	c.in = slices.Grow(c.in[:0], maxBlock)
	for {
		n, err := body.Read(c.in[:maxBlock])
		plain = plain && !slices.ContainsFunc(c.in[:n], func(octet byte) bool { return octet > 127 })
		switch {
		case err == io.EOF: // a wrapped one is an error of the body, not its end
			return plain, nil
		case err != nil:
			return false, err
		case ctx.Err() != nil:
			return false, cancelled(ctx)
		}
	}
}
