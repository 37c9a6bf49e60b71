package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"time"
)

// dialogue is one SMTP session that shows what either side says.
type dialogue struct {
	conn    net.Conn
	text    *textproto.Conn
	show    io.Writer
	timeout time.Duration
}

// closing is the reply after which the server closes the connection (RFC 5321
// section 3.8), so nothing more is asked.
const closing = 421

// refusedError is a reply other than the one that goes on.
type refusedError struct {
	step string
	code int
	text string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("the server refused %s: %d %s", e.step, e.code, e.text)
}

func newDialogue(conn net.Conn, show io.Writer, timeout time.Duration) *dialogue {
	return &dialogue{conn: conn, text: textproto.NewConn(conn), show: show, timeout: timeout}
}

// send carries out one transaction (RFC 5321 section 3.3). A recipient that is
// refused doesn't keep the others from it. What became of it is settled before QUIT: a
// server that doesn't answer that has taken, or refused, the message all the same.
func (d *dialogue) send(host, from string, to []string, content io.ReadCloser) error {
	defer content.Close()
	if err := d.reply("the connection", 220); err != nil {
		return err
	}
	if err := d.command("EHLO", 250, "EHLO %s", host); err != nil {
		return err
	}
	err := d.transaction(from, to, content)
	_, refused := errors.AsType[*refusedError](err)
	_, lost := errors.AsType[*noAnswerError](err)
	if lost || err != nil && !refused {
		return err
	}
	if quit := d.command("QUIT", 221, "QUIT"); quit != nil {
		fmt.Fprintf(d.show, "    %v\n", quit)
	}
	return err
}

func (d *dialogue) transaction(from string, to []string, content io.Reader) error {
	if err := d.command("the sender", 250, "MAIL FROM:<%s>", from); err != nil {
		return err
	}
	var refusals []error
	for _, address := range to {
		err := d.command("the recipient "+address, 250, "RCPT TO:<%s>", address)
		refusal, refused := errors.AsType[*refusedError](err)
		switch {
		case err != nil && !refused:
			return errors.Join(append(refusals, err)...)
		case refused:
			refusals = append(refusals, err)
		}
		if refused && refusal.code == closing {
			return errors.Join(refusals...)
		}
	}
	if len(refusals) == len(to) {
		return errors.Join(refusals...)
	}
	if err := d.command("DATA", 354, "DATA"); err != nil {
		return errors.Join(append(refusals, err)...)
	}
	if err := d.content(content); err != nil {
		return err
	}
	return errors.Join(append(refusals, d.reply("the message", 250))...)
}

// content writes the message with dot-stuffing and the final dot (RFC 5321
// section 4.5.2).
func (d *dialogue) content(content io.Reader) error {
	w := d.text.DotWriter()
	n, err := io.Copy(w, deadlined{d, content})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return d.lost(err)
	}
	fmt.Fprintf(d.show, "--> (%d bytes of message)\n--> .\n", n)
	return nil
}

// deadlined moves the deadline on with every piece of a long message.
type deadlined struct {
	d *dialogue
	r io.Reader
}

func (r deadlined) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if deadline := r.d.extend(); deadline != nil {
		return n, deadline
	}
	return n, err
}

func (d *dialogue) extend() error { return d.conn.SetDeadline(time.Now().Add(d.timeout)) }

func (d *dialogue) command(step string, want int, format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintf(d.show, "--> %s\n", printable(line))
	if err := d.extend(); err != nil {
		return d.lost(err)
	}
	if err := d.text.PrintfLine("%s", line); err != nil {
		return d.lost(err)
	}
	return d.reply(step, want)
}

// reply reads and shows a reply, all of its lines.
func (d *dialogue) reply(step string, want int) error {
	if err := d.extend(); err != nil {
		return d.lost(err)
	}
	for {
		line, err := d.text.ReadLine()
		if err != nil {
			return d.lost(err)
		}
		fmt.Fprintf(d.show, "<-- %s\n", printable(line))
		code, last, text, err := parseReply(line)
		if err != nil {
			return err
		}
		if !last {
			continue
		}
		if code != want {
			return &refusedError{step: step, code: code, text: printable(text)}
		}
		return nil
	}
}

// parseReply takes a line of a reply apart (RFC 5321 section 4.2).
func parseReply(line string) (code int, last bool, text string, err error) {
	if len(line) < 3 || (len(line) > 3 && line[3] != ' ' && line[3] != '-') {
		return 0, false, "", fmt.Errorf("the server doesn't speak SMTP: it said %q", printable(line))
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, "", fmt.Errorf("the server doesn't speak SMTP: it said %q", printable(line))
		}
		code = code*10 + int(c-'0')
	}
	if len(line) == 3 {
		return code, true, "", nil
	}
	return code, line[3] == ' ', line[4:], nil
}

// lost is a connection that ended before the server's answer.
func (d *dialogue) lost(err error) error {
	if errors.Is(err, io.EOF) {
		return &noAnswerError{text: "the server closed the connection"}
	}
	return &noAnswerError{text: fmt.Sprintf("no answer from the server: %v", err)}
}
