package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/test/harness"
)

// world is a cluster of three processes with its destinations configured. All
// destinations are the same server; there are several so that every node owns
// some.
type world struct {
	cluster *harness.Cluster
	next    string // host:port of the server behind the relay
	domains []string
	slots   int // of each destination
	out     io.Writer

	violations []string
}

// build starts the cluster; nothing listens at next yet.
func build(ctx context.Context, o options, name string, destinations int, out io.Writer) (w *world, err error) {
	free, err := harness.FreeAddresses(1)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := harness.Start(ready, harness.Config{Binary: o.binary, Dir: dir, Nodes: 3, LogStore: o.logStore, TrailingBytes: o.trailing})
	if err != nil {
		return nil, err
	}
	w = &world{cluster: c, next: free[0], slots: cmp.Or(o.slots, 4), out: out}
	for i := range destinations {
		if err := w.route(ready, fmt.Sprintf("d%02d", i+1), w.next); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

// route makes a destination and a domain of its own for it.
func (w *world) route(ctx context.Context, name, host string) error {
	node := w.cluster.Nodes[0]
	domain := name + ".test"
	_, err := node.CLI(ctx, "destination", "set", name, "--host", host,
		"--slots", strconv.Itoa(w.slots), "--probe-max", "10s")
	if err != nil {
		return err
	}
	if _, err := node.CLI(ctx, "domain", "set", domain, "--destination", name); err != nil {
		return err
	}
	w.domains = append(w.domains, domain)
	return nil
}

func (w *world) close() error { return w.cluster.Close() }

// recipients has one address in each domain.
func (w *world) recipients() []string {
	var all []string
	for _, domain := range w.domains {
		all = append(all, "user@"+domain)
	}
	return all
}

func (w *world) say(format string, args ...any) {
	fmt.Fprintf(w.out, "%s  "+format+"\n", append([]any{time.Now().Format("15:04:05.000")}, args...)...)
}

// violation records that a promise was broken; the run goes on to show all.
func (w *world) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.violations = append(w.violations, text)
	w.say("VIOLATION: %s", text)
}

// verdict is nil where every promise was kept.
func (w *world) verdict(name string) error {
	if len(w.violations) == 0 {
		w.say("%s: every promise kept", name)
		return nil
	}
	return fmt.Errorf("%s: %d violations, the first: %s\n%s", name, len(w.violations), w.violations[0], w.cluster.Tails(8))
}

// survivors are the nodes that run, but for one.
func (w *world) survivors(dead *harness.Node) []*harness.Node {
	var all []*harness.Node
	for _, n := range w.cluster.Nodes {
		if n != dead {
			all = append(all, n)
		}
	}
	return all
}

// restart starts a killed node and waits until it serves.
func (w *world) restart(ctx context.Context, n *harness.Node) error {
	began := time.Now()
	if err := n.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		return err
	}
	w.say("node %s is ready again %s after its start", n.Name, time.Since(began).Round(time.Millisecond))
	return nil
}

// verified is what `holdfast cluster verify --json` says.
type verified struct {
	Index     uint64 `json:"index"`
	Identical bool   `json:"identical"`
	Nodes     []struct {
		Name  string  `json:"name"`
		Error *string `json:"error"`
	} `json:"nodes"`
}

// verify compares the states of all nodes. A node that doesn't answer counts as
// one that differs: all of them run by now.
func (w *world) verify(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var v verified
	if err := w.cluster.Nodes[0].JSON(ctx, &v, "cluster", "verify"); err != nil {
		w.violation("cluster verify: %v", err)
		return
	}
	for _, n := range v.Nodes {
		if n.Error != nil {
			w.violation("cluster verify: node %s: %s", n.Name, *n.Error)
		}
	}
	if !v.Identical || len(v.Nodes) != len(w.cluster.Nodes) {
		w.violation("cluster verify: %+v", v)
		return
	}
	w.say("cluster verify: %d nodes agree at index %d", len(v.Nodes), v.Index)
}
