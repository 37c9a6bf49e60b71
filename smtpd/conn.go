package smtpd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"holdfast/relay"
)

const (
	// maxCommandLine is the longest command in octets, with its CRLF. RFC 5321
	// section 4.5.3.1.4 has 512; the parameters of our extensions add to it.
	maxCommandLine = 2048
	// maxSkippedLine is how much of a longer line is read to keep in step.
	maxSkippedLine = 1 << 20
	readBuffer     = 16 << 10
	// lingerTime and lingerBytes bound what is read after the last reply, so
	// that unread input doesn't make the kernel reset the connection and the
	// client lose the reply.
	lingerTime  = time.Second
	lingerBytes = 1 << 20
	// maxLingering is how many connections that were turned away are read at once.
	maxLingering = 64
)

var (
	errLineTooLong = errors.New("line too long")
	errBareLF      = errors.New("line ends in a bare LF")
	errStopping    = errors.New("server is shutting down")
	errWrite       = errors.New("can't write")
)

// conn is the wire: lines in, replies out, and the time that each may take.
// Only interrupt may be called from another goroutine than the session's.
type conn struct {
	cfg *Config
	br  *bufio.Reader
	bw  *bufio.Writer
	end time.Time // of the session
	// broken is the first read error. It is sticky: reading on after it would
	// take the middle of a body for commands.
	broken error

	// While content arrives: how long the client was waited for, what came in
	// this time. While a command arrives: its deadline.
	inContent bool
	waited    time.Duration
	received  int64
	deadline  time.Time

	mu       sync.Mutex // guards nc against interrupt, and the two below
	nc       net.Conn
	idle     bool // waiting for a command
	stopping bool
}

func newConn(nc net.Conn, cfg *Config) *conn {
	c := &conn{cfg: cfg, nc: nc, end: time.Now().Add(cfg.SessionTimeout)}
	c.br = bufio.NewReaderSize(transport{c}, readBuffer)
	c.bw = bufio.NewWriter(transport{c})
	return c
}

// transport is the conn as its two buffers see it.
type transport struct{ c *conn }

// Read flushes what was written before it waits for more: replies to pipelined
// commands leave in one packet (RFC 2920 section 3.2).
func (t transport) Read(p []byte) (int, error) {
	c := t.c
	if c.broken != nil {
		return 0, c.broken
	}
	if c.broken = c.bw.Flush(); c.broken != nil {
		return 0, c.broken
	}
	begin := time.Now()
	if c.broken = c.arm(begin); c.broken != nil {
		return 0, c.broken
	}
	n, err := c.nc.Read(p)
	if c.inContent {
		c.waited += time.Since(begin)
		c.received += int64(n)
	}
	c.broken = err
	return n, err
}

// Write gives the client time to take what it asked for.
func (t transport) Write(p []byte) (int, error) {
	if err := t.c.nc.SetWriteDeadline(time.Now().Add(t.c.cfg.CommandTimeout)); err != nil {
		return 0, fmt.Errorf("%w: %w", errWrite, err)
	}
	n, err := t.c.nc.Write(p)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errWrite, err)
	}
	return n, nil
}

// arm sets the deadline of one read.
func (c *conn) arm(now time.Time) error {
	deadline := c.deadline
	if c.inContent {
		deadline = now.Add(c.patience())
	}
	if deadline.After(c.end) {
		deadline = c.end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle && c.stopping {
		return errStopping
	}
	return c.nc.SetReadDeadline(deadline)
}

// patience is how long the next block of content may take: DataTimeout, renewed
// by each block, within the least rate over the whole transfer. Only waiting
// for the client counts, not what the cluster takes.
func (c *conn) patience() time.Duration {
	earned := time.Duration(float64(c.received) / float64(c.cfg.MinDataRate) * float64(time.Second))
	return min(c.cfg.DataTimeout, c.cfg.DataTimeout+earned-c.waited)
}

// beginContent and endContent enclose the reading of DATA or BDAT.
func (c *conn) beginContent() {
	c.inContent, c.waited, c.received = true, 0, 0
}

func (c *conn) endContent() { c.inContent = false }

// readLine returns the next command without its CRLF, valid until the next
// read. After errLineTooLong the dialogue is still in step.
func (c *conn) readLine() ([]byte, error) {
	c.deadline = time.Now().Add(c.cfg.CommandTimeout)
	c.setIdle(true)
	defer c.setIdle(false)
	line, err := c.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, c.skipLine(line[len(line)-1])
	}
	if err != nil {
		return nil, err
	}
	n := len(line)
	if n < 2 || line[n-2] != '\r' {
		return nil, errBareLF
	}
	if n > maxCommandLine {
		return nil, errLineTooLong
	}
	return line[:n-2], nil
}

// skipLine reads to the end of a line that is too long; last is the octet read
// before.
func (c *conn) skipLine(last byte) error {
	for skipped := 0; skipped < maxSkippedLine; {
		part, err := c.br.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		skipped += len(part)
		if err == nil {
			if len(part) > 1 {
				last = part[len(part)-2]
			}
			if last != '\r' {
				return errBareLF
			}
			return errLineTooLong
		}
		last = part[len(part)-1]
	}
	c.broken = fmt.Errorf("%w: no end in sight", errLineTooLong)
	return c.broken
}

func (c *conn) setIdle(idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = idle
}

// interrupt ends the wait for a command, now or when it begins.
func (c *conn) interrupt() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if c.idle {
		return c.nc.SetReadDeadline(time.Unix(1, 0))
	}
	return nil
}

// isStopping reports whether interrupt was called.
func (c *conn) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// abort ends the connection at once, whatever it is doing.
func (c *conn) abort() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nc.Close()
}

// writeReply writes one reply; write errors show at the next read or flush.
func (c *conn) writeReply(r *relay.Reply) {
	_, _ = c.bw.WriteString(r.String() + "\r\n")
}

// flush has the replies written so far leave now; an error shows at the next read.
func (c *conn) flush() { _ = c.bw.Flush() }

// writeLines writes a reply of several lines, with the enhanced code on each
// (RFC 2034 section 4).
func (c *conn) writeLines(code int, enhanced string, lines ...string) {
	if enhanced != "" {
		enhanced += " "
	}
	for i, line := range lines {
		separator := '-'
		if i == len(lines)-1 {
			separator = ' '
		}
		fmt.Fprintf(c.bw, "%d%c%s%s\r\n", code, separator, enhanced, line)
	}
}

// startTLS makes the connection a TLS connection. An error leaves it unusable:
// what follows a failed handshake can't be trusted to be in plain text by the
// client's own will.
func (c *conn) startTLS(config *tls.Config) error {
	if err := c.bw.Flush(); err != nil {
		return err
	}
	secured := tls.Server(c.nc, config)
	if err := c.nc.SetDeadline(time.Now().Add(c.cfg.CommandTimeout)); err != nil {
		return err
	}
	if err := secured.Handshake(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc = secured
	return nil
}

// close ends the connection. Unless the client is known to be finished, it is
// given a moment to read the last reply.
func (c *conn) close(linger bool) {
	defer c.nc.Close()
	if c.bw.Flush() != nil || !linger {
		return
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		// Whether the client goes or the time runs out is all the same here.
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
	}
}
