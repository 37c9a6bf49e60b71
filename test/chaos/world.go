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

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
)

// world is a cluster of three processes with its destinations configured. All
// destinations are the same server; there are several so that every node owns
// some.
type world struct {
	cluster *harness.Cluster
	next    string // host:port of the server behind the relay
	domains []string
	slots   int // of each destination
	*audit.Journal
}

// build starts the cluster; nothing listens at next yet.
func build(ctx context.Context, o options, name string, destinations int, out io.Writer) (w *world, err error) {
	free, err := harness.FreeAddresses(1)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := harness.Start(ready, harness.Config{Binary: o.Binary, Dir: dir, Nodes: 3, LogStore: o.logStore, TrailingBytes: o.trailing, TLS: o.tls})
	if err != nil {
		return nil, err
	}
	w = &world{cluster: c, next: free[0], slots: cmp.Or(o.slots, 4), Journal: &audit.Journal{Out: out}}
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
	domain := domainOf(name)
	_, err := node.CLI(ctx, "destination", "set", name, "--host", host,
		"--slots", strconv.Itoa(w.slots), "--probe-max", "10s")
	if err != nil {
		return err
	}
	if _, err := node.CLI(ctx, "domain", "set", domain, "--destination", name, "--verify", "off"); err != nil {
		return err
	}
	w.domains = append(w.domains, domain)
	return nil
}

// domainOf is the domain that has a destination to itself.
func domainOf(destination string) string { return destination + ".test" }

func (w *world) close() error { return w.cluster.Close() }

// recipients has one address in each domain.
func (w *world) recipients() []string {
	var all []string
	for _, domain := range w.domains {
		all = append(all, "user@"+domain)
	}
	return all
}

// verdict is nil where every promise was kept.
func (w *world) verdict(name string) error {
	return w.Verdict(name, func() string { return w.cluster.Tails(8) })
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
	w.Say("node %s is ready again %s after its start", n.Name, time.Since(began).Round(time.Millisecond))
	return nil
}

// audit compares the clients' answers, the mail at the destination, the log and
// the nodes' states. books says what is allowed.
func (w *world) audit(ctx context.Context, books audit.Books, report *load.Report, d *destination) (audit.Findings, error) {
	w.Say("%.0f accepted/s, p50 %s, p99 %s, max %s", report.Rate(), report.Latency(0.5).Round(10*time.Microsecond),
		report.Latency(0.99).Round(10*time.Microsecond), report.Latency(1).Round(10*time.Microsecond))
	books.Answers = report.Answers
	found, err := audit.Cluster(ctx, w.Journal, w.cluster, books, d.Messages)
	if err != nil {
		return found, err
	}
	w.verify(ctx)
	return found, nil
}

func (w *world) verify(ctx context.Context) { audit.Verify(ctx, w.Journal, w.cluster) }
