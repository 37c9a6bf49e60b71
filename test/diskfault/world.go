package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast/test/audit"
	"holdfast/test/faultfs"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// domains there are, each with a destination of its own, so that every node
// owns some.
const domains = 6

// world is a cluster of three processes, a disk for each, and one mail server
// behind all of its destinations.
type world struct {
	name    string
	dir     string
	cluster *harness.Cluster
	disks   map[string]*faultfs.FS
	sink    *sink.Server
	*audit.Journal

	fills   int           // loads to fill segments and memtables with
	answers []load.Answer // of loads that have ended
}

// prepare mounts the disks and chooses addresses; no node runs yet.
func prepare(ctx context.Context, o options, name string, out io.Writer) (_ *world, err error) {
	w := &world{name: name, dir: filepath.Join(o.Dir, name), disks: map[string]*faultfs.FS{},
		Journal: &audit.Journal{Out: out, Prefix: fmt.Sprintf("%-5s ", name)}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for _, node := range []string{"a", "b", "c"} {
		if w.disks[node], err = faultfs.Mount(filepath.Join(w.dir, node, "backing"), w.mount(node)); err != nil {
			return w, err
		}
	}
	if w.sink, err = sink.Start(sink.Config{IDHeader: load.HeaderID}); err != nil {
		return w, err
	}
	w.cluster, err = harness.Prepare(ctx, harness.Config{
		Binary: o.Binary, Dir: w.dir, Nodes: len(w.disks), LogStore: o.logStore, DataDir: w.mount,
	})
	return w, err
}

// build starts the cluster and configures it.
func build(ctx context.Context, o options, name string, out io.Writer) (*world, error) {
	w, err := prepare(ctx, o, name, out)
	if err != nil {
		return nil, err
	}
	if err = w.startAll(ctx); err == nil {
		err = w.configure(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", name, err, w.cluster.Tails(8)), w.close())
	}
	return w, nil
}

func (w *world) mount(node string) string { return filepath.Join(w.dir, node, "disk") }

func (w *world) startAll(ctx context.Context) error {
	for _, n := range w.cluster.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return w.cluster.WaitReady(ctx)
}

func (w *world) configure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	node := w.cluster.Nodes[0]
	for i := range domains {
		name := fmt.Sprintf("d%d", i+1)
		if _, err := node.CLI(ctx, "destination", "set", name, "--host", w.sink.Addr(), "--slots", "4", "--probe-max", "10s"); err != nil {
			return err
		}
		if _, err := node.CLI(ctx, "domain", "set", name+".test", "--destination", name, "--verify", "off"); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) close() error {
	var errs []error
	for _, d := range w.disks {
		d.LiftAll() // a process whose fsync hangs can't even be killed
	}
	if w.cluster != nil {
		errs = append(errs, w.cluster.Close())
	}
	if w.sink != nil {
		errs = append(errs, w.sink.Close())
	}
	for _, d := range w.disks {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// running is a load under way.
type running struct {
	*load.Loader
	done <-chan struct{} // closed when it has ended, by itself or not
	stop func() (*load.Report, error)
}

// load sends until stopped; the answers are kept for the audit.
func (w *world) load(ctx context.Context, o options, name string, change func(*load.Config)) (*running, error) {
	log, err := os.Create(filepath.Join(w.dir, "answers-"+name))
	if err != nil {
		return nil, err
	}
	config := load.Config{
		Addresses: w.cluster.SMTP(), Sessions: o.sessions, Run: name, Duration: time.Hour,
		Size: 2 << 10, LongEvery: 100, LongSize: 600 << 10, PerConnection: 50, Timeout: 10 * time.Second, Log: log,
	}
	for i := range domains {
		config.Recipients = append(config.Recipients, fmt.Sprintf("user@d%d.test", i+1))
	}
	if change != nil {
		change(&config)
	}
	loader, err := load.New(config)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	var report *load.Report
	done := make(chan struct{})
	go func() {
		report, err = loader.Run(ctx)
		close(done)
	}()
	var once sync.Once
	return &running{Loader: loader, done: done, stop: func() (*load.Report, error) {
		once.Do(func() {
			cancel()
			<-done
			err = errors.Join(err, log.Close())
			w.answers = append(w.answers, report.Answers...)
		})
		return report, err
	}}, nil
}

// waitAccepting waits until each of the nodes has answered a 250 well after a time.
func (w *world) waitAccepting(ctx context.Context, l *running, since time.Time, patience time.Duration, nodes []*harness.Node) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return harness.Eventually(ctx, "250 from the nodes without a fault", func(context.Context) error {
		for _, n := range nodes {
			if l.LastAccepted(n.SMTP).Before(since.Add(500 * time.Millisecond)) {
				return fmt.Errorf("node %s accepted nothing for %s", n.Name, time.Since(since).Round(time.Millisecond))
			}
		}
		return nil
	})
}

func (w *world) others(dead ...*harness.Node) []*harness.Node {
	var all []*harness.Node
next:
	for _, n := range w.cluster.Nodes {
		for _, d := range dead {
			if n == d {
				continue next
			}
		}
		all = append(all, n)
	}
	return all
}

// restart starts a node that ended and waits until it serves. One with an empty
// folder takes its time under load: it may have to replay the whole log.
func (w *world) restart(ctx context.Context, n *harness.Node) error {
	began := time.Now()
	if err := n.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		return err
	}
	w.Say("node %s is ready again %s after its start", n.Name, time.Since(began).Round(time.Millisecond))
	return nil
}

// lastWords are the lines that the program itself wrote for the operator, apart
// from its log; a Go panic counts as many.
func lastWords(output string) (words []string) {
	for line := range strings.Lines(output) {
		if strings.HasPrefix(line, "holdfast:") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "goroutine ") {
			words = append(words, strings.TrimSpace(line))
		}
	}
	return words
}

// checkEnd waits for the end of a node and wants exit status 1 and one line
// that says why.
func (w *world) checkEnd(ctx context.Context, n *harness.Node, since int64, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := n.WaitExit(ctx)
	if err != nil {
		w.Violation("%v", err)
		return false
	}
	output, _, err := n.Output(since)
	if err != nil {
		w.Violation("%v", err)
		return true
	}
	words := lastWords(output)
	if status != 1 || len(words) != 1 {
		w.Violation("node %s ended with status %d and %d lines: %q", n.Name, status, len(words), words[:min(len(words), 3)])
		return true
	}
	w.Say("node %s ended with status 1: %s", n.Name, words[0])
	return true
}

// outputNow is the length of a node's output, to tell later what is new.
func (w *world) outputNow(n *harness.Node) int64 {
	_, length, err := n.Output(0)
	if err != nil {
		return 0 // it hasn't been started
	}
	return length
}

// audit compares the clients' answers, the mail at the destination, the log and
// the nodes' states.
func (w *world) audit(ctx context.Context) error {
	_, err := audit.Cluster(ctx, w.Journal, w.cluster, audit.Books{
		Answers: w.answers, MaxDuplicates: audit.NoLimit, HeldAllowed: true,
	}, w.sink.Messages)
	w.verify(ctx)
	return err
}

func (w *world) verify(ctx context.Context) { audit.Verify(ctx, w.Journal, w.cluster) }

// verdict is nil where every promise was kept.
func (w *world) verdict() error {
	return w.Verdict(w.name, func() string { return w.cluster.Tails(8) })
}

// until waits for a time of the plan.
func until(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
