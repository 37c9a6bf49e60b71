package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Fault is what a proxy does to the connections of one source.
type Fault struct {
	// Cut closes the connections there are and refuses new ones.
	Cut bool
	// StallIn holds back what goes to the target, StallOut what comes from it:
	// nothing is lost or closed, as when packets vanish in one direction.
	StallIn, StallOut bool
	// Delay is added to each way.
	Delay time.Duration
}

// Proxy stands in front of one listener of a node and passes TCP connections
// on to it, except where a fault is set. Faults are by source, so that a pair
// of nodes can be separated while others still reach both.
type Proxy struct {
	target string
	source dialler

	listener net.Listener
	cancel   context.CancelFunc
	done     sync.WaitGroup

	mu      sync.Mutex       // guards the maps and changed
	faults  map[string]Fault // by source; "" holds for any source without its own
	links   map[*link]bool
	changed chan struct{} // closed and replaced when a fault changes
}

// dialler names who dialled a connection from a port to the proxy's own, "" where
// that isn't known.
type dialler func(ctx context.Context, from, to int) string

// link is one proxied connection.
type link struct {
	from           string
	client, server net.Conn
}

// NewProxy listens on address and passes on to target. A nil source makes all
// connections one source.
func NewProxy(ctx context.Context, address, target string, source dialler) (*Proxy, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("proxy for %s: %w", target, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &Proxy{
		target: target, source: source, listener: listener, cancel: cancel,
		faults: map[string]Fault{}, links: map[*link]bool{}, changed: make(chan struct{}),
	}
	p.done.Go(func() { p.accept(ctx) })
	return p, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Close ends the proxy and all its connections.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.cancel()
	p.done.Wait()
	return err
}

// Set puts a fault on the connections from a source, "" for all sources that
// have none of their own. The zero Fault heals.
func (p *Proxy) Set(from string, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fault == (Fault{}) {
		delete(p.faults, from)
	} else {
		p.faults[from] = fault
	}
	close(p.changed)
	p.changed = make(chan struct{})
	for l := range p.links {
		if p.fault(l.from).Cut {
			l.reset()
		}
	}
}

// Heal removes every fault.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

// fault wants mu held.
func (p *Proxy) fault(from string) Fault {
	if fault, found := p.faults[from]; found {
		return fault
	}
	return p.faults[""]
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a connection that died before it was accepted
		}
		p.done.Go(func() { p.serve(ctx, client) })
	}
}

func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	l := &link{client: client}
	if p.source != nil {
		l.from = p.source(ctx, portOf(client.RemoteAddr()), portOf(client.LocalAddr()))
	}
	dialer := net.Dialer{}
	server, err := dialer.DialContext(ctx, "tcp", p.target)
	if err != nil {
		closeWithReset(client)
		return
	}
	l.server = server
	if !p.register(l) {
		l.reset()
		return
	}
	stop := context.AfterFunc(ctx, l.reset)
	defer stop()
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(ctx, l, server, client, func(f Fault) bool { return f.StallIn }) })
	pumps.Go(func() { p.pump(ctx, l, client, server, func(f Fault) bool { return f.StallOut }) })
	pumps.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
	l.reset()
}

func portOf(a net.Addr) int {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.Port
	}
	return 0
}

// register reports false where the source is cut off.
func (p *Proxy) register(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault(l.from).Cut {
		return false
	}
	p.links[l] = true
	return true
}

// pump copies one direction. An end of file is passed on as a half close; an
// error ends both directions.
func (p *Proxy) pump(ctx context.Context, l *link, to, from net.Conn, stalled func(Fault) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !p.pass(ctx, l, stalled) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				l.reset()
				return
			}
		}
		if errors.Is(err, io.EOF) && p.pass(ctx, l, stalled) {
			if half, ok := to.(*net.TCPConn); ok && half.CloseWrite() == nil {
				return
			}
		}
		if err != nil {
			l.reset()
			return
		}
	}
}

// pass waits out a stall, then the delay. It reports false when ctx ended.
func (p *Proxy) pass(ctx context.Context, l *link, stalled func(Fault) bool) bool {
	for {
		p.mu.Lock()
		fault, changed := p.fault(l.from), p.changed
		p.mu.Unlock()
		if !stalled(fault) {
			return wait(ctx, fault.Delay)
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// reset ends both connections with RST, as a dead host's peer would answer.
func (l *link) reset() {
	closeWithReset(l.client)
	closeWithReset(l.server)
}

// closeWithReset may be called more than once; only the first has an effect.
func closeWithReset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed connection
	}
	_ = c.Close()
}
