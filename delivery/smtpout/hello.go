package smtpout

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/relay"
)

// extensions are what the peer offered in reply to EHLO.
type extensions struct {
	pipelining, chunking, startTLS    bool
	eightBit, binary, utf8, dsn, size bool
	authPlain, authLogin              bool
	maxSize                           int64 // octets, 0 for no limit
	maxMail, maxRecipients            int   // RFC 9422, 0 for no limit
	refusedEHLO                       int   // its reply where HELO had to do, else 0
}

// hello says EHLO, or HELO to a server from before RFC 1869.
func (c *Conn) hello() *relay.Failure {
	c.ext = extensions{}
	said, err := c.ask("EHLO "+c.localName+"\r\n", c.timeouts.Hello)
	if err != nil {
		return c.failure(relay.PhaseEHLO, err)
	}
	switch said.code {
	case 500, 501, 502, 504: // not known or not implemented; 550 and 554 are a policy's no
		c.ext.refusedEHLO = said.code
		said, err = c.ask("HELO "+c.localName+"\r\n", c.timeouts.Hello)
		if err != nil {
			return c.failure(relay.PhaseEHLO, err)
		}
		return c.check(relay.PhaseEHLO, said)
	}
	if f := c.check(relay.PhaseEHLO, said); f != nil {
		return f
	}
	c.ext = parseExtensions(said.text)
	return nil
}

// parseExtensions reads the lines after the first (RFC 5321 section 4.1.1.1).
// Keywords that we don't know, and parameters that make no sense, are ignored.
func parseExtensions(text []byte) extensions {
	var e extensions
	_, text, _ = bytes.Cut(text, []byte("\n"))
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(strings.ToUpper(line))
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "PIPELINING":
			e.pipelining = true
		case "CHUNKING":
			e.chunking = true
		case "STARTTLS":
			e.startTLS = true
		case "8BITMIME":
			e.eightBit = true
		case "BINARYMIME":
			e.binary = true
		case "SMTPUTF8":
			e.utf8 = true
		case "DSN":
			e.dsn = true
		case "SIZE":
			e.size = true
			e.maxSize = sizeLimit(words[1:])
		case "AUTH": // RFC 4954 section 3
			e.authPlain = slices.Contains(words[1:], "PLAIN")
			e.authLogin = slices.Contains(words[1:], "LOGIN")
		case "LIMITS":
			e.limits(words[1:])
		}
	}
	return e
}

// sizeLimit is the octets that SIZE names; 0 for no limit (RFC 1870 section 3).
func sizeLimit(words []string) int64 {
	if len(words) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// limits reads LIMITS (RFC 9422); limits that we don't know are ignored, as
// section 3 asks.
func (e *extensions) limits(words []string) {
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			continue
		}
		switch key {
		case "MAILMAX":
			e.maxMail = n
		case "RCPTMAX":
			e.maxRecipients = n
		}
	}
}

// expect reads a reply that should be positive.
func (c *Conn) expect(phase relay.Phase, limit time.Duration) *relay.Failure {
	said, err := c.read(limit)
	if err != nil {
		return c.failure(phase, err)
	}
	return c.check(phase, said)
}

// check wants a 2xx.
func (c *Conn) check(phase relay.Phase, said reply) *relay.Failure {
	switch {
	case said.positive():
		return nil
	case said.refused():
		return c.refusal(phase, said)
	}
	return c.failure(phase, unexpected(said))
}

func unexpected(said reply) error {
	return fmt.Errorf("%w: reply %d out of place", errProtocol, said.code)
}
