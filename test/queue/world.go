package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/audit"
	"holdfast/test/harness"
)

// world is a cluster of three processes and the address of a mail server.
type world struct {
	cluster *harness.Cluster
	next    string // host:port of the mail server behind the relay
	*audit.Journal
}

const (
	destination = "office"
	domain      = "office.test"
	slots       = 20
	probeMax    = 5 * time.Minute
)

func build(ctx context.Context, o options, name string, out io.Writer) (*world, error) {
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
	c, err := harness.Start(ready, harness.Config{Binary: o.Binary, Dir: dir, Nodes: 3, Direct: true})
	if err != nil {
		return nil, err
	}
	return &world{cluster: c, next: free[0], Journal: &audit.Journal{Out: out}}, nil
}

// run has a cluster and closes it. An error comes with the nodes' last lines.
func inWorld(ctx context.Context, o options, name string, out io.Writer, steps func(*world) error) (err error) {
	w, err := build(ctx, o, name, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.cluster.Close()) }()
	tails := func() string { return w.cluster.Tails(8) }
	if err := steps(w); err != nil {
		return fmt.Errorf("%w\n%s", err, tails())
	}
	return w.Verdict(name+" run", tails)
}

// configure makes one destination, at which nothing listens yet, and its domain.
func (w *world) configure(ctx context.Context, flags ...string) error {
	node := w.cluster.Nodes[0]
	set := append([]string{"destination", "set", destination, "--host", w.next, "--slots", strconv.Itoa(slots)}, flags...)
	if _, err := node.CLI(ctx, set...); err != nil {
		return err
	}
	_, err := node.CLI(ctx, "domain", "set", domain, "--destination", destination, "--verify", "off")
	return err
}

// all runs a step for every node at the same time.
func (w *world) all(step func(*harness.Node) error) error {
	var group errgroup.Group
	for _, n := range w.cluster.Nodes {
		group.Go(func() error { return step(n) })
	}
	return group.Wait()
}

func (w *world) kill() error { return w.all((*harness.Node).Kill) }

// stop ends all nodes as an operator does.
func (w *world) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return w.all(func(n *harness.Node) error { return n.Stop(ctx) })
}

// start starts all nodes and says how long it was until each of them served, in
// the order in which they did.
func (w *world) start(ctx context.Context, limit time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began, ready := time.Now(), make(chan time.Duration, len(w.cluster.Nodes))
	err := w.all(func(n *harness.Node) error {
		if err := n.Start(); err != nil {
			return err
		}
		err := n.WaitReady(ctx)
		ready <- time.Since(began)
		return err
	})
	close(ready)
	var served []time.Duration
	for took := range ready {
		served = append(served, took)
	}
	return served, err
}

// prepare appends events to the log of the killed cluster and starts it.
func (w *world) prepare(ctx context.Context, count int, event func(int) (*pb.Event, []byte)) error {
	if err := w.kill(); err != nil {
		return err
	}
	began := time.Now()
	if err := appendEvents(w.cluster.Nodes, count, event); err != nil {
		return err
	}
	wrote := time.Since(began)
	served, err := w.start(ctx, 30*time.Minute)
	if err != nil {
		return err
	}
	w.Say("%d events appended to each log in %s; the nodes folded them and served after %s", count, wrote.Round(time.Second), served[len(served)-1].Round(time.Second))
	return nil
}

var (
	crcTable = crc32.MakeTable(crc32.Castagnoli)
	body     = append([]byte("Received: from client.test by mx-a.holdfast.test; Thu, 1 Jan 2026 00:00:00 +0000\r\nSubject: queue\r\n\r\n"),
		make400()...)
)

// make400 is a short text.
func make400() []byte {
	var text []byte
	for range 8 {
		text = append(text, "The quick brown fox jumps over the lazy dog here.\r\n"...)
	}
	return text
}

// acceptance is the n-th message of a queue, as a front door proposes it.
func acceptance(n int, at time.Time, domain string) (*pb.Event, []byte) {
	id := relay.MessageID(append(relay.LowestMessageID(at)[:6], fmt.Appendf(nil, "%010d", n)...))
	return &pb.Event{Time: at.UnixNano(), Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: fmt.Sprintf("sender%d@origin.test", n%1000)},
		HeaderMessageId: fmt.Sprintf("<%d@origin.test>", n),
		Recipients:      []*pb.Recipient{{Address: fmt.Sprintf("user%d@%s", n%5000, domain)}},
		Content:         &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, crcTable)},
		Origin:          &pb.Origin{Node: "a", ClientAddress: "192.0.2.1", Helo: "client.test", Protocol: "ESMTP"},
	}}}, body
}

// pending waits until a node has so many recipients pending.
func (w *world) pending(ctx context.Context, n *harness.Node, want func(int) bool) error {
	return harness.Eventually(ctx, "the queue on node "+n.Name, func(ctx context.Context) error {
		var count harness.Count
		if err := n.JSON(ctx, &count, "queue", "count"); err != nil {
			return err
		}
		if !want(count.Pending) {
			return fmt.Errorf("%d pending", count.Pending)
		}
		return nil
	})
}

func eventually(ctx context.Context, limit time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return harness.Eventually(ctx, what, check)
}

// health is what `destination show` prints of a destination.
type health struct {
	Owner     string
	State     string
	NextProbe *time.Time
}

func (w *world) health(ctx context.Context) (h health, err error) {
	return h, w.cluster.Nodes[0].JSON(ctx, &h, "destination", "show", destination)
}
