package sink

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
)

// bufferSize is also the longest command line and the most that replies to a
// pipelined flight gather before they are written.
const bufferSize = 32 << 10

// session is one connection.
type session struct {
	server  *Server
	conn    net.Conn
	number  int
	r       *bufio.Reader
	w       *bufio.Writer
	greeted bool
	secure  bool
	message *Message // the open transaction, nil outside of one
	content content
	left    bool // it is no longer counted
}

func newSession(s *Server, conn net.Conn, number int) *session {
	return &session{
		server: s, conn: conn, number: number,
		r: bufio.NewReaderSize(conn, bufferSize),
		w: bufio.NewWriterSize(conn, bufferSize),
	}
}

// serve runs the dialogue until either side ends it.
func (c *session) serve() {
	defer c.end(false)
	_, goOn := c.answer(Step{Verb: Connect}, Reply{Code: 220, Text: c.server.config.Hostname + " ESMTP sink"})
	for goOn {
		line, err := c.readLine()
		if err != nil {
			return
		}
		verb, args, _ := strings.Cut(line, " ")
		goOn = c.command(strings.ToUpper(verb), strings.TrimSpace(args))
	}
	// Who reads the last reply may connect anew at once: it isn't to be counted twice.
	c.end(false)
	c.leave()
	// An error here means that the client is gone already.
	_ = c.w.Flush()
}

// leave takes the connection off those that are open.
func (c *session) leave() {
	if !c.left {
		c.left = true
		c.server.record.closed()
	}
}

// readLine reads a command. Replies are written only when the client has
// nothing more under way (RFC 2920 section 3.2).
func (c *session) readLine() (string, error) {
	if c.r.Buffered() == 0 {
		if err := c.w.Flush(); err != nil {
			return "", err
		}
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// command answers one command; false ends the connection.
func (c *session) command(verb, args string) bool {
	step := Step{Verb: verb, Args: args}
	switch verb {
	case "EHLO", "HELO":
		return c.hello(step)
	case "STARTTLS":
		return c.startTLS(step)
	case "MAIL":
		return c.mail(step)
	case "RCPT":
		return c.rcpt(step)
	case "DATA":
		return c.data(step)
	case "BDAT":
		return c.bdat(step)
	case "RSET":
		c.end(false)
		_, goOn := c.answer(step, ok("reset"))
		return goOn
	case "NOOP":
		_, goOn := c.answer(step, ok("ok"))
		return goOn
	case "QUIT":
		c.answer(step, Reply{Code: 221, Enhanced: "2.0.0", Text: "bye"})
		return false
	}
	_, goOn := c.answer(step, Reply{Code: 500, Enhanced: "5.5.2", Text: "command not known"})
	return goOn
}

func ok(text string) Reply { return Reply{Code: 250, Enhanced: "2.0.0", Text: text} }

func badSequence(text string) Reply { return Reply{Code: 503, Enhanced: "5.5.1", Text: text} }

func (c *session) hello(step Step) bool {
	config := &c.server.config
	greeting := Reply{Code: 250, Text: config.Hostname}
	if step.Verb == "EHLO" {
		lines := append([]string{config.Hostname}, config.Offer...)
		if c.server.tls != nil && !c.secure {
			lines = append(lines, "STARTTLS")
		}
		greeting.Raw = ehlo(lines)
	}
	c.end(false)
	reply, goOn := c.answer(step, greeting)
	c.greeted = c.greeted || reply.Code == 250
	return goOn
}

func ehlo(lines []string) string {
	var b strings.Builder
	for i, line := range lines {
		sep := '-'
		if i == len(lines)-1 {
			sep = ' '
		}
		fmt.Fprintf(&b, "250%c%s\r\n", sep, line)
	}
	return b.String()
}

func (c *session) startTLS(step Step) bool {
	if c.server.tls == nil || c.secure {
		_, goOn := c.answer(step, Reply{Code: 502, Enhanced: "5.5.1", Text: "not offered"})
		return goOn
	}
	reply, goOn := c.answer(step, Reply{Code: 220, Enhanced: "2.0.0", Text: "go ahead"})
	if !goOn || reply.Code != 220 {
		return goOn
	}
	if c.w.Flush() != nil {
		return false
	}
	secure := tls.Server(c.conn, c.server.tls)
	if secure.Handshake() != nil {
		return false
	}
	// The client starts anew; what it sent in the clear after STARTTLS is
	// dropped with the old buffer (RFC 3207 section 4.2).
	c.r.Reset(secure)
	c.w.Reset(secure)
	c.secure, c.greeted = true, false
	return true
}
