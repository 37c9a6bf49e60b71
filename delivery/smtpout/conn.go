package smtpout

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// lastWords is how long a reply is waited for once a write has failed: a peer
// that hangs up in the middle has often said why before.
const lastWords = time.Second

// Conn is a connection to a next hop, ready for transactions. One goroutine
// uses it at a time; only Abort, AbortUnlessCommitted, Host and TLS may be
// called from others.
type Conn struct {
	host, localName string
	timeouts        Timeouts
	now             func() time.Time
	trace           func(sent bool, line string)

	address    string   // IP address and port behind host, once it was dialled
	tcp        net.Conn // as dialled
	stream     net.Conn // tcp, or TLS over it
	r          *bufio.Reader
	text       []byte // buffer of the last reply
	out        []byte // buffer of what is written next
	in         []byte // buffer of content that is read for DATA
	pending    []step // buffer of the replies that are awaited
	ext        extensions
	tlsVersion string

	transactions int
	dirty        bool  // the last transaction failed: RSET is due
	broken       bool  // no further transaction
	writeErr     error // of the first write that failed

	mu      sync.Mutex // guards those below, and closing against writing the last octets
	content progress
	stopErr error // why all I/O is to end: cancelled or aborted
	last    bool  // the present transaction is the message's last: an abort waits for its reply
}

// progress of the content of the present transaction.
type progress int

const (
	incomplete progress = iota // the last octets are not in the socket
	complete                   // they are, and their reply hasn't come
)

// Host is the host:port that was connected to.
func (c *Conn) Host() string { return c.host }

// TLS is the version in use, such as "TLS 1.3", or "" in the clear.
func (c *Conn) TLS() string { return c.tlsVersion }

// Reusable reports whether another transaction may follow the last one.
func (c *Conn) Reusable() bool {
	return !c.broken && !c.stopped() && (c.ext.maxMail == 0 || c.transactions < c.ext.maxMail)
}

// Alive reports whether an idle connection is still good: it is Reusable and
// the peer has neither closed it nor said anything, which could only be a
// goodbye. A peer may still hang up a moment later: see Result.Stale.
func (c *Conn) Alive() bool {
	return c.Reusable() && c.r.Buffered() == 0 && !readable(c.tcp)
}

// Close says QUIT where that is in order, waits at most Timeouts.Quit for the
// answer, and closes. Mail is never at stake here, so there is no error.
func (c *Conn) Close() {
	if c.broken || c.stopped() {
		c.Abort()
		return
	}
	c.out = append(c.out[:0], "QUIT\r\n"...)
	c.traceCommand(0)
	end := time.Now().Add(c.timeouts.Quit)
	// RFC 5321 section 4.1.1.10: wait for the reply, whatever it is. It, or read, says
	// what is wrong where the write fails.
	_ = c.writeUntil(end)
	if _, err := c.readUntil(end); err != nil {
		c.Abort()
		return
	}
	c.stream.Close()
}

// Abort resets the connection at once: what is in the send queue is thrown
// away and never reaches the peer. A transaction under way ends with a failure
// that wraps ErrAborted.
func (c *Conn) Abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort()
}

// AbortUnlessCommitted is for the loss of the lease: it aborts and returns true,
// unless the whole content of the present transaction has reached the peer's
// host and only its reply is awaited. What the message's other recipients would
// need, another transaction, doesn't begin then. Octets that are written but not
// acknowledged count as not sent, because the kernel would go on sending them
// long after another node has begun its own attempt.
func (c *Conn) AbortUnlessCommitted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.content == complete && acknowledged(c.tcp) {
		c.last = true
		return false
	}
	c.abort()
	return true
}

// abort closes with a RST in place of a FIN. mu is held.
func (c *Conn) abort() {
	if c.stopErr == nil {
		c.stopErr = ErrAborted
	}
	if tcp, ok := c.tcp.(interface{ SetLinger(seconds int) error }); ok {
		// Where it fails the socket is closed already.
		_ = tcp.SetLinger(0)
	}
	if c.tcp != nil {
		c.tcp.Close()
	}
}

// bind makes the end of ctx interrupt all I/O until release.
func (c *Conn) bind(ctx context.Context) (release func()) {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.stopErr == nil {
			c.stopErr = cancelled(ctx)
		}
		// An error means that it is closed, which ends the I/O as well.
		_ = c.tcp.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			c.broken = true
		}
	}
}

// cancelled is why ctx ended; it wraps ctx.Err() and its cause.
func cancelled(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("attempt cancelled: %w: %w", ctx.Err(), cause)
	}
	return fmt.Errorf("attempt cancelled: %w", ctx.Err())
}

func (c *Conn) stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopErr != nil
}

// explain puts the reason why the connection was stopped in place of the I/O
// error that came of it.
func (c *Conn) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopErr != nil {
		return c.stopErr
	}
	return err
}

func (c *Conn) setDeadline(end time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopErr != nil {
		return c.stopErr
	}
	return c.tcp.SetDeadline(end)
}

func (c *Conn) setContent(p progress) {
	c.mu.Lock()
	c.content = p
	c.mu.Unlock()
}

// write sends what out holds and empties it. After the first error nothing
// more is written.
func (c *Conn) write(limit time.Duration) error { return c.writeUntil(time.Now().Add(limit)) }

func (c *Conn) writeUntil(end time.Time) error {
	out := c.out
	c.out = c.out[:0]
	if c.writeErr != nil {
		return c.writeErr
	}
	err := c.setDeadline(end)
	if err == nil {
		_, err = c.stream.Write(out)
	}
	if err != nil {
		c.broken = true
		c.writeErr = c.explain(err)
	}
	return c.writeErr
}

// read reads the next reply. Where an earlier write failed and no reply is
// there to tell why, the write's error is returned.
func (c *Conn) read(limit time.Duration) (reply, error) { return c.readUntil(time.Now().Add(limit)) }

func (c *Conn) readUntil(end time.Time) (reply, error) {
	if last := time.Now().Add(lastWords); c.writeErr != nil && last.Before(end) {
		end = last
	}
	err := c.setDeadline(end)
	var said reply
	if err == nil {
		said, err = readReply(c.r, c.text)
	}
	if err != nil {
		c.broken = true
		if c.writeErr != nil {
			return reply{}, c.writeErr
		}
		return reply{}, c.explain(err)
	}
	c.text = said.text
	if said.code == 421 {
		c.broken = true // RFC 5321 section 3.8: the peer is closing
	}
	c.traceReply(said)
	return said, nil
}

// ask sends one command and reads its reply; each has the limit for itself.
func (c *Conn) ask(command string, limit time.Duration) (reply, error) {
	c.out = append(c.out[:0], command...)
	c.traceCommand(0)
	// read returns write's error, or better, what the peer said about it.
	_ = c.write(limit)
	return c.read(limit)
}

// traceCommand shows the command that begins at an offset of out.
func (c *Conn) traceCommand(begin int) {
	if c.trace != nil {
		c.trace(true, strings.TrimRight(string(c.out[begin:]), "\r\n"))
	}
}

func (c *Conn) traceReply(said reply) {
	if c.trace == nil {
		return
	}
	lines := strings.Split(strings.TrimSuffix(string(said.text), "\n"), "\n")
	for i, line := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		c.trace(false, fmt.Sprintf("%d%s%s", said.code, sep, line))
	}
}
