package harness

import (
	"context"
	"time"
)

// Network is the proxies in front of the peer listeners (raft and gRPC) of all
// nodes of a cluster. Nodes know each other by the proxies' addresses only.
type Network struct {
	proxies map[string][]*Proxy // by the node behind them
	names   []string
	sockets sockets
}

// Cut closes all connections between two nodes and refuses new ones.
func (n *Network) Cut(a, b string) { n.both(a, b, Fault{Cut: true}) }

// Stall lets all packets between two nodes vanish, closing nothing.
func (n *Network) Stall(a, b string) { n.both(a, b, Fault{StallIn: true, StallOut: true}) }

// OneWay lets what goes from one node to another vanish; the other direction
// still flows.
func (n *Network) OneWay(from, to string) {
	n.set(to, from, Fault{StallIn: true})
	n.set(from, to, Fault{StallOut: true})
}

// Isolate cuts a node off from all others.
func (n *Network) Isolate(name string) {
	for _, other := range n.names {
		if other != name {
			n.Cut(name, other)
		}
	}
}

// Mute lets all that a node sends to the others vanish; it still hears them.
func (n *Network) Mute(name string) {
	for _, other := range n.names {
		if other != name {
			n.OneWay(name, other)
		}
	}
}

// Deafen lets all that the others send to a node vanish; they still hear it.
func (n *Network) Deafen(name string) {
	for _, other := range n.names {
		if other != name {
			n.OneWay(other, name)
		}
	}
}

// Delay slows down each way between two nodes.
func (n *Network) Delay(a, b string, d time.Duration) { n.both(a, b, Fault{Delay: d}) }

// Heal removes every fault.
func (n *Network) Heal() {
	for _, proxies := range n.proxies {
		for _, p := range proxies {
			p.Heal()
		}
	}
}

func (n *Network) both(a, b string, fault Fault) {
	n.set(a, b, fault)
	n.set(b, a, fault)
}

func (n *Network) set(target, from string, fault Fault) {
	for _, p := range n.proxies[target] {
		p.Set(from, fault)
	}
}

func (n *Network) close() {
	for _, proxies := range n.proxies {
		for _, p := range proxies {
			_ = p.Close() // a listener of a test that ends
		}
	}
}

// add puts a proxy in front of a listener of a node and gives its address.
func (n *Network) add(ctx context.Context, name, target string, source dialler) (string, error) {
	p, err := NewProxy(ctx, "127.0.0.1:0", target, source)
	if err != nil {
		return "", err
	}
	n.proxies[name] = append(n.proxies[name], p)
	return p.Address(), nil
}
