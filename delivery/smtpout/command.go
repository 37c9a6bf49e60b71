package smtpout

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"holdfast/relay"
)

// Why an address or a parameter can't be written into a command.
var (
	errSyntax    = errors.New("not a mail address that can be sent")
	errParameter = errors.New("not a parameter that can be sent")
)

// appendMail writes MAIL with the parameters that the peer knows.
func appendMail(b []byte, t *Transaction, e *extensions) []byte {
	b = append(append(append(b, "MAIL FROM:<"...), t.From...), '>')
	if e.size && t.Body != nil {
		b = strconv.AppendInt(append(b, " SIZE="...), t.Size, 10)
	}
	switch {
	case t.BodyType == BodyBinaryMIME:
		b = append(b, " BODY=BINARYMIME"...)
	case t.BodyType == Body8BitMIME:
		b = append(b, " BODY=8BITMIME"...)
	case t.BodyType == Body7Bit && e.eightBit:
		b = append(b, " BODY=7BIT"...)
	}
	if needsUTF8(t) && e.utf8 {
		b = append(b, " SMTPUTF8"...)
	}
	if e.dsn && t.Ret != "" {
		b = append(append(b, " RET="...), t.Ret...)
	}
	if e.dsn && t.EnvID != "" {
		b = appendXtext(append(b, " ENVID="...), t.EnvID)
	}
	return append(b, "\r\n"...)
}

// appendRcpt writes RCPT; utf8 tells whether the transaction is an SMTPUTF8 one.
func appendRcpt(b []byte, r *Recipient, e *extensions, utf8 bool) []byte {
	b = append(append(append(b, "RCPT TO:<"...), r.Address...), '>')
	if e.dsn && r.Notify != "" {
		b = append(append(b, " NOTIFY="...), r.Notify...)
	}
	if e.dsn && r.ORcpt != "" {
		kind, address, _ := strings.Cut(r.ORcpt, ";")
		b = append(append(append(b, " ORCPT="...), kind...), ';')
		if strings.EqualFold(kind, "utf-8") {
			b = appendUnitext(b, address, utf8)
		} else {
			b = appendXtext(b, address)
		}
	}
	return append(b, "\r\n"...)
}

// appendXtext encodes as RFC 3461 section 4 says.
func appendXtext(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '+' && c != '=' {
			b = append(b, c)
		} else {
			b = append(b, '+', hex[c>>4], hex[c&15])
		}
	}
	return b
}

// appendUnitext encodes an address of the type utf-8 (RFC 6533 section 3):
// with characters as they are in an SMTPUTF8 transaction, else all escaped.
func appendUnitext(b []byte, s string, utf8 bool) []byte {
	for _, r := range s {
		plain := r > ' ' && r < 0x7f && r != '+' && r != '=' && r != '\\'
		if plain || utf8 && r > 0x7f {
			b = append(b, string(r)...)
		} else {
			b = fmt.Appendf(b, `\x{%02X}`, r)
		}
	}
	return b
}

// unfit finds what keeps the whole transaction from this peer.
func (c *Conn) unfit(t *Transaction) *relay.Failure {
	e := &c.ext
	refuse := func(code int, enhanced, text string) *relay.Failure {
		return c.ownFailure(relay.PhaseMail, code, enhanced, text)
	}
	switch {
	case t.From != "" && checkAddress(t.From) != nil:
		return refuse(553, "5.1.7", fmt.Sprintf("sender %q: %v", t.From, errSyntax))
	case t.Ret != "" && t.Ret != "FULL" && t.Ret != "HDRS":
		return refuse(501, "5.5.4", fmt.Sprintf("RET %q: %v", t.Ret, errParameter))
	case e.maxSize > 0 && t.Size > e.maxSize:
		return c.unfitFailure(relay.PhaseMail, 552, "5.3.4", fmt.Sprintf("message of %d octets, the next hop takes %d", t.Size, e.maxSize))
	case t.BodyType == Body8BitMIME && !e.eightBit:
		return c.lacks(relay.PhaseMail, 554, "5.6.1", "message declared 8BITMIME")
	case t.BodyType == BodyBinaryMIME && (!e.binary || !e.chunking):
		return c.lacks(relay.PhaseMail, 554, "5.6.1", "message declared BINARYMIME")
	case (t.SMTPUTF8 || !ascii(t.From)) && !e.utf8:
		return c.lacks(relay.PhaseMail, 550, "5.6.7", "message needs SMTPUTF8")
	}
	return nil
}

// unfitRecipient finds what keeps one recipient from this peer.
func (c *Conn) unfitRecipient(r *Recipient) *relay.Failure {
	refuse := func(code int, enhanced, text string) *relay.Failure {
		return c.ownFailure(relay.PhaseRcpt, code, enhanced, text)
	}
	kind, address, found := strings.Cut(r.ORcpt, ";")
	switch {
	case checkAddress(r.Address) != nil:
		return refuse(553, "5.1.3", fmt.Sprintf("recipient %q: %v", r.Address, errSyntax))
	case !ascii(r.Address) && !c.ext.utf8:
		return c.lacks(relay.PhaseRcpt, 550, "5.6.7", "address needs SMTPUTF8")
	case !words(r.Notify):
		return refuse(501, "5.5.4", fmt.Sprintf("NOTIFY %q: %v", r.Notify, errParameter))
	case r.ORcpt != "" && (!found || kind == "" || !words(kind) || !utf8.ValidString(address)):
		return refuse(501, "5.5.4", fmt.Sprintf("ORCPT %q: %v", r.ORcpt, errParameter))
	}
	return nil
}

// lacks refuses what needs an extension that the peer doesn't offer: for good, but not
// where it refused EHLO itself. That is a server in trouble or a box on the way more
// often than one from before RFC 1869, and what it offers when it is well isn't known
// (R3: a 5xx to EHLO says nothing of the message).
func (c *Conn) lacks(phase relay.Phase, code int, enhanced, what string) *relay.Failure {
	if c.ext.refusedEHLO != 0 {
		return c.unfitFailure(phase, 451, "4.5.0",
			fmt.Sprintf("%s, and the next hop answered EHLO with %d instead of what it supports", what, c.ext.refusedEHLO))
	}
	return c.unfitFailure(phase, code, enhanced, what+", which the next hop does not support")
}

func (c *Conn) unfitFailure(phase relay.Phase, code int, enhanced, text string) *relay.Failure {
	f := c.ownFailure(phase, code, enhanced, text)
	f.Err = ErrUnfit
	return f
}

// checkAddress keeps an address from ending its command or adding to it: no
// control characters, and no space or angle bracket outside of a quoted local
// part (RFC 5321 section 4.1.2). It is no full check of the syntax.
func checkAddress(address string) error {
	if address == "" || !utf8.ValidString(address) {
		return errSyntax
	}
	quoted := false
	for i := 0; i < len(address); i++ {
		ch := address[i]
		switch {
		case ch < ' ' || ch == 0x7f:
			return errSyntax
		case quoted && ch == '\\':
			if i++; i == len(address) || address[i] < ' ' || address[i] == 0x7f {
				return errSyntax
			}
		case ch == '"':
			quoted = !quoted
		case !quoted && (ch == ' ' || ch == '<' || ch == '>'):
			return errSyntax
		}
	}
	if quoted {
		return errSyntax
	}
	return nil
}

// words is letters, digits, hyphens and commas only.
func words(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && c != '-' && c != ',' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func needsUTF8(t *Transaction) bool {
	if t.SMTPUTF8 || !ascii(t.From) {
		return true
	}
	for i := range t.Recipients {
		if !ascii(t.Recipients[i].Address) {
			return true
		}
	}
	return false
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
