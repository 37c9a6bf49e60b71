package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Network is the proxies in front of the peer listeners (raft and gRPC) of all
// nodes of a cluster. Nodes know each other by the proxies' addresses only.
type Network struct {
	proxies map[string][]*Proxy // by the node behind them
	names   []string
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

// findOwner is ownerOfPort, and looks more than once: the kernel's table of
// connections may lack one that is there when others come and go while it is read,
// and one without a name would pass through every cut.
func findOwner(from, to int, processes map[string]int) (name string, err error) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range 20 {
		if name, err = ownerOfPort(from, to, processes); err == nil {
			return name, nil
		}
		<-ticker.C
	}
	return "", err
}

// ownerOfPort finds which of the processes has the client end of a loopback
// connection from a port to another: every node dials from 127.0.0.1, so the address
// alone says nothing. It reads /proc, which shows our own children without privileges.
func ownerOfPort(from, to int, processes map[string]int) (string, error) {
	inode, err := inodeOfPort(from, to)
	if err != nil {
		return "", err
	}
	want := "socket:[" + inode + "]"
	for name, pid := range processes {
		folder := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // the process has just ended
		}
		for _, entry := range entries {
			if target, err := os.Readlink(filepath.Join(folder, entry.Name())); err == nil && target == want {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("port %d to port %d belongs to no node", from, to)
}

// inodeOfPort reads a table that has thousands of closed connections under load,
// so it takes apart only the lines that have the port at either end. A port may have
// connections to several others at the same time.
func inodeOfPort(from, to int) (string, error) {
	end, other := fmt.Sprintf(":%04X ", from), fmt.Sprintf(":%04X", to)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, err := os.ReadFile(table)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(content)) {
			if !strings.Contains(line, end) {
				continue
			}
			fields := strings.Fields(line)
			if len(fields) >= 10 && strings.HasSuffix(fields[1]+" ", end) && strings.HasSuffix(fields[2], other) && fields[9] != "0" {
				return fields[9], nil
			}
		}
	}
	return "", fmt.Errorf("no socket goes from port %d to port %d", from, to)
}
