// Package netlimit bounds how many connections of strangers are open, in total
// and from one address, so that nobody takes all file descriptors or keeps others
// out:
//
//  1. Each connection that a listener accepts counts, until it is closed or turns
//     out not to be a stranger's.
//  2. One more than an address or all may have ends the oldest of them: whoever
//     opens many and says little loses them, and who has one call to make gets in.
package netlimit

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/loglimit"
)

// Config says how many connections may be open.
type Config struct {
	// Name of the door, for the log and the metric.
	Name              string
	Total, PerAddress int
	Logger            *slog.Logger
	Ended             prometheus.Counter // connections that were ended to make room
	Now               func() time.Time
}

// Limit counts the connections of all its listeners together.
type Limit struct {
	cfg   Config
	lines *loglimit.Lines

	mu        sync.Mutex // guards strangers
	strangers []*Conn    // open, oldest first
}

// New makes a limit.
func New(cfg Config) *Limit {
	return &Limit{cfg: cfg, lines: loglimit.New(cfg.Logger, cfg.Now)}
}

// Close ends what the limit has to say, once its listeners are closed.
func (l *Limit) Close() { l.lines.Close() }

// Listener is a listener whose connections count.
func (l *Limit) Listener(inner net.Listener) net.Listener {
	return &listener{Listener: inner, limit: l}
}

type listener struct {
	net.Listener
	limit *Limit
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: raw, limit: l.limit}
	if address, err := netip.ParseAddrPort(raw.RemoteAddr().String()); err == nil {
		c.client = Client(address.Addr())
	}
	l.limit.enter(c)
	return c, nil
}

// Conn is a connection that counts.
type Conn struct {
	net.Conn
	limit  *Limit
	client netip.Prefix
	closed bool // guarded by the limit's mu
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.limit.mu.Lock()
	c.closed = true
	c.limit.mu.Unlock()
	c.limit.leave(c)
	return c.Conn.Close()
}

// Known takes a connection out of the count: who is at its other end has shown
// that it is no stranger's.
func (c *Conn) Known() { c.limit.leave(c) }

// Unknown counts a connection again, as the latest: what its other end has shown
// isn't good any more.
func (c *Conn) Unknown() { c.limit.enter(c) }

// enter counts a connection in and ends those that are too many.
func (l *Limit) enter(c *Conn) {
	l.mu.Lock()
	if c.closed || slices.Contains(l.strangers, c) {
		l.mu.Unlock()
		return
	}
	l.strangers = append(l.strangers, c)
	var ended []*Conn
	ofAddress := func(other *Conn) bool { return other.client == c.client }
	if l.count(ofAddress) > l.cfg.PerAddress {
		ended = append(ended, l.oldest(ofAddress))
	}
	if len(l.strangers) > l.cfg.Total {
		ended = append(ended, l.oldest(func(*Conn) bool { return true }))
	}
	l.mu.Unlock()
	for _, c := range ended {
		l.end(c)
	}
}

// count wants mu held, as does oldest.
func (l *Limit) count(which func(*Conn) bool) (n int) {
	for _, c := range l.strangers {
		if which(c) {
			n++
		}
	}
	return n
}

// oldest takes a connection out of the count. There is one.
func (l *Limit) oldest(which func(*Conn) bool) *Conn {
	i := slices.IndexFunc(l.strangers, which)
	c := l.strangers[i]
	l.strangers = slices.Delete(l.strangers, i, i+1)
	return c
}

func (l *Limit) leave(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strangers = slices.DeleteFunc(l.strangers, func(other *Conn) bool { return other == c })
}

// end closes the socket; whoever serves it finds it broken and closes the rest.
func (l *Limit) end(c *Conn) {
	l.cfg.Ended.Inc()
	if l.lines.Admit() {
		l.cfg.Logger.Warn("a connection was ended to make room for another one", "door", l.cfg.Name, "from", c.RemoteAddr().String())
	}
	c.Conn.Close() // there is nothing more to do about it
}

// Client is whom a limit for an address counts: an IPv6 host has a whole /64.
func Client(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64
	}
	// The bits fit the address, so there is no error.
	prefix, _ := address.Prefix(bits)
	return prefix
}
