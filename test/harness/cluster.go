package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Config says what cluster to start.
type Config struct {
	// Binary is the holdfast executable (see Build); a cluster within our own
	// process needs it for CLI only.
	Binary string
	// Dir holds everything of the cluster. Keep it short: a socket's path has
	// 107 bytes at most.
	Dir string
	// DataDir gives each node's data folder, for data on other file systems than
	// Dir; nil is a folder in the node's own.
	DataDir func(node string) string
	// Nodes is their number; they are named a, b, c …
	Nodes int
	// LogStore is wal or boltdb; "" is the server's default.
	LogStore string
	// TrailingBytes of the raft log stay behind a snapshot; 0 is the server's
	// default.
	TrailingBytes int64
	// Direct leaves the proxies out, for measurements.
	Direct bool
	// InProcess runs all nodes within our own process. It is always Direct: who
	// dialled a proxy is known by the process only.
	InProcess bool
	// TLS gives every node a certificate of Cluster.Authority.
	TLS bool
	// Issue writes a node's TLSFiles before its first start; nil where TLS has it
	// done, or there are none.
	Issue func(*Node) error
	// LogLevel of the nodes; "" is info.
	LogLevel string
}

// Cluster is a set of nodes.
type Cluster struct {
	Nodes   []*Node
	Network *Network
	// Authority is the CA of the nodes, nil without Config.TLS.
	Authority *Authority
	config    Config
	forgotten []*Node
}

// Start starts all nodes at the same time and waits until each is ready.
// Where it fails, nothing is left running.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	c, err := Prepare(ctx, config)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		if err = n.Start(); err != nil {
			break
		}
	}
	if err == nil {
		err = c.WaitReady(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, c.Tails(15))
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Prepare chooses addresses and writes the configuration files; no node runs yet.
func Prepare(ctx context.Context, config Config) (*Cluster, error) {
	if config.Nodes < 1 || config.Nodes > 9 {
		return nil, fmt.Errorf("harness: %d nodes, want 1 to 9", config.Nodes)
	}
	if config.LogLevel == "" {
		config.LogLevel = "info"
	}
	c := &Cluster{Network: &Network{proxies: map[string][]*Proxy{}}, config: config}
	ports, err := FreeAddresses(config.Nodes * 4)
	if err != nil {
		return nil, err
	}
	for i := range config.Nodes {
		n := c.newNode(string(rune('a'+i)), ports[i*4:])
		c.Nodes = append(c.Nodes, n)
		c.Network.names = append(c.Network.names, n.Name)
	}
	if err := c.secure(); err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		if err := c.addProxies(ctx, n); err != nil {
			c.Network.close()
			return nil, err
		}
	}
	for _, n := range c.Nodes {
		if err := n.writeConfig(); err != nil {
			c.Network.close()
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) newNode(name string, ports []string) *Node {
	n := &Node{
		Name: name, cluster: c,
		Dir:  filepath.Join(c.config.Dir, name),
		SMTP: ports[0], Raft: ports[1], Admin: ports[2], HTTP: ports[3],
	}
	n.data = filepath.Join(n.Dir, "data")
	if c.config.DataDir != nil {
		n.data = c.config.DataDir(name)
	}
	n.RaftAdvertised, n.AdminAdvertised = n.Raft, n.Admin
	return n
}

// Add makes and starts another node, which joins the first ones; it isn't
// among Network's names, so it can't be cut off.
func (c *Cluster) Add(ctx context.Context, name string) (*Node, error) {
	n, err := c.Launch(ctx, name, false)
	if err != nil {
		return nil, err
	}
	return n, n.WaitReady(ctx)
}

// Launch is Add without the wait. A node that is alone knows no cluster: it waits
// for `cluster join`.
func (c *Cluster) Launch(ctx context.Context, name string, alone bool) (*Node, error) {
	ports, err := FreeAddresses(4)
	if err != nil {
		return nil, err
	}
	n := c.newNode(name, ports)
	n.added, n.Alone = true, alone
	c.Nodes = append(c.Nodes, n)
	if err := c.certify(n); err != nil {
		return nil, err
	}
	if err := errors.Join(c.addProxies(ctx, n), n.writeConfig()); err != nil {
		return nil, err
	}
	return n, n.Start()
}

// Forget takes a node that is gone for good out of Nodes.
func (c *Cluster) Forget(n *Node) {
	c.Nodes = slices.DeleteFunc(slices.Clone(c.Nodes), func(other *Node) bool { return other == n })
	c.forgotten = append(c.forgotten, n)
}

// addProxies puts a node behind proxies, unless the cluster goes without.
func (c *Cluster) addProxies(ctx context.Context, n *Node) (err error) {
	if c.config.Direct || c.config.InProcess {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // it bounds the start; the proxies last until Close
	if n.RaftAdvertised, err = c.Network.add(ctx, n.Name, n.Raft, c.source); err != nil {
		return err
	}
	n.AdminAdvertised, err = c.Network.add(ctx, n.Name, n.Admin, c.source)
	return err
}

// source names the node that opened a connection to a proxy.
func (c *Cluster) source(ctx context.Context, from, to int) string {
	processes := map[string]int{}
	for _, n := range c.Nodes {
		if pid := n.PID(); pid != 0 {
			processes[n.Name] = pid
		}
	}
	if name, err := c.Network.sockets.owner(ctx, from, to, processes); err == nil {
		return name
	}
	return "" // the dialler is gone, or is no node: faults for all still hold
}

// Node finds a node by name.
func (c *Cluster) Node(name string) (*Node, error) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("the cluster has no node %q", name)
}

// SMTP lists the addresses of the front doors in the order of the nodes.
func (c *Cluster) SMTP() []string {
	var addresses []string
	for _, n := range c.Nodes {
		addresses = append(addresses, n.SMTP)
	}
	return addresses
}

// WaitReady waits until every running node answers /readyz.
func (c *Cluster) WaitReady(ctx context.Context) error {
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Leader asks the running nodes who leads, until one that runs is named.
func (c *Cluster) Leader(ctx context.Context) (leader *Node, err error) {
	return leader, Eventually(ctx, "a leader", func(ctx context.Context) error {
		for _, n := range c.Nodes {
			if !n.Running() {
				continue
			}
			name, err := n.knownLeader(ctx)
			if err != nil {
				return err
			}
			if l, err := c.Node(name); err == nil && l.Running() {
				leader = l
				return nil
			}
		}
		return errors.New("no node names a leader that runs")
	})
}

// Close ends what still runs and removes no file.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range append(slices.Clone(c.Nodes), c.forgotten...) {
		if !c.config.InProcess {
			errs = append(errs, n.Kill())
			continue
		}
		errs = append(errs, n.signal(syscall.SIGTERM))
		n.wait()
	}
	c.Network.close()
	return errors.Join(errs...)
}

// Tails are the last lines of each node's output.
func (c *Cluster) Tails(lines int) string {
	var b strings.Builder
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "--- node %s (%s)\n", n.Name, n.logPath())
		content, err := os.ReadFile(n.logPath())
		if err != nil {
			fmt.Fprintln(&b, err)
			continue
		}
		all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
		_, _ = io.WriteString(&b, strings.Join(all[max(0, len(all)-lines):], "\n")+"\n") // memory
	}
	return b.String()
}
