package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// client is one SMTP connection. MAIL, RCPT and DATA go out in one flight (RFC
// 2920): the servers under test all offer PIPELINING.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	timeout time.Duration
}

type reply struct {
	code int
	text string // first line without its code
}

var errProtocol = errors.New("not an SMTP reply")

// dial connects and greets; any failure closes the connection.
func dial(ctx context.Context, address string, timeout time.Duration) (*client, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 4096), timeout: timeout}
	if err := c.greet(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *client) greet() error {
	greeting, err := c.read()
	if err != nil {
		return err
	}
	if greeting.code != 220 {
		return fmt.Errorf("greeting %d %s", greeting.code, greeting.text)
	}
	hello, err := c.command("EHLO load.test\r\n")
	if err != nil {
		return err
	}
	if hello.code != 250 {
		return fmt.Errorf("answer to EHLO %d %s", hello.code, hello.text)
	}
	return nil
}

func (c *client) command(line string) (reply, error) {
	if err := c.write([]byte(line)); err != nil {
		return reply{}, err
	}
	return c.read()
}

func (c *client) write(parts ...[]byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	buffers := net.Buffers(parts)
	_, err := buffers.WriteTo(c.conn)
	return err
}

// read takes one reply; of several lines the first line's text counts.
func (c *client) read() (reply, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return reply{}, err
	}
	var r reply
	for first := true; ; first = false {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return reply{}, err
		}
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 3 {
			return reply{}, fmt.Errorf("%w: %q", errProtocol, line)
		}
		code, err := strconv.Atoi(line[:3])
		if err != nil {
			return reply{}, fmt.Errorf("%w: %q", errProtocol, line)
		}
		if first {
			r = reply{code: code, text: strings.TrimLeft(line[3:], " -")}
		}
		if len(line) == 3 || line[3] != '-' {
			return r, nil
		}
	}
}

// quit ends the connection politely where it still can.
func (c *client) quit() error {
	_, err := c.command("QUIT\r\n")
	return errors.Join(err, c.conn.Close())
}
