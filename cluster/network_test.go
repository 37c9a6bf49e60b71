package cluster

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// network runs every connection between nodes through a TCP proxy that can be
// cut: then nothing passes, and nobody is told.
type network struct {
	t     testing.TB
	mu    sync.Mutex        // guards the fields below
	owner map[string]string // address to node
	links map[[2]string]*proxy
	cut   map[[2]string]bool
	muted map[[2]string]bool // answers don't come back
	heal  chan struct{}
	wg    sync.WaitGroup
}

func newNetwork(t testing.TB) *network {
	n := &network{t: t, owner: map[string]string{}, links: map[[2]string]*proxy{}, cut: map[[2]string]bool{}, muted: map[[2]string]bool{}, heal: make(chan struct{})}
	t.Cleanup(n.close)
	return n
}

func (n *network) own(address, node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owner[address] = node
}

// dialer is Config.DialPeer of a node.
func (n *network) dialer(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		p, err := n.link(from, address)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", p.listener.Addr().String())
	}
}

func (n *network) link(from, address string) (*proxy, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := [2]string{from, address}
	if p, ok := n.links[key]; ok {
		return p, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{n: n, from: from, target: address, listener: listener, conns: map[net.Conn]struct{}{}}
	n.links[key] = p
	n.wg.Go(p.serve)
	return p, nil
}

// isolate cuts a node off, in both directions.
func (n *network) isolate(node string, others ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range others {
		n.cut[[2]string{node, other}] = true
		n.cut[[2]string{other, node}] = true
	}
}

// mute lets what from sends reach to, and no answer come back.
func (n *network) mute(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.muted[[2]string{from, to}] = true
}

func (n *network) healAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	clear(n.muted)
	close(n.heal)
	n.heal = make(chan struct{})
}

// pass waits while the link is cut.
func (n *network) pass(from, address string, answer bool) {
	for {
		n.mu.Lock()
		key := [2]string{from, n.owner[address]}
		cut, heal := n.cut[key] || answer && n.muted[key], n.heal
		n.mu.Unlock()
		if !cut {
			return
		}
		<-heal
	}
}

func (n *network) close() {
	n.mu.Lock()
	for _, p := range n.links {
		p.close()
	}
	n.mu.Unlock()
	n.healAll()
	n.wg.Wait()
}

type proxy struct {
	n            *network
	from, target string
	listener     net.Listener

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	shut  bool
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.n.wg.Go(func() { p.forward(client) })
	}
}

func (p *proxy) forward(client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer p.drop(client)
	p.n.pass(p.from, p.target, false)
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.drop(server)
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(server, client, false); server.Close(); client.Close() })
	wg.Go(func() { p.pump(client, server, true); server.Close(); client.Close() })
	wg.Wait()
}

func (p *proxy) pump(to io.Writer, from io.Reader, answer bool) {
	buf := make([]byte, 32<<10)
	for {
		size, err := from.Read(buf)
		if size > 0 {
			p.n.pass(p.from, p.target, answer)
			if _, err := to.Write(buf[:size]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	p.listener.Close()
	for c := range p.conns {
		c.Close()
	}
}
