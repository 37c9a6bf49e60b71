package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/newer"
	"holdfast/test/sink"
)

const (
	// Destinations that are up: several, so that every node owns some.
	upDestinations = 6
	slots          = 20 // of each, as it is by default
	// The one that is down until the end.
	lateDestination = "late"
	lateDomain      = "late.test"
	probeMax        = "5s" // the shortest there is
	// replyAfter is what a mail server takes for its last reply.
	replyAfter = 5 * time.Millisecond
)

// world is a cluster with its destinations, its traffic, and what has been found
// so far.
type world struct {
	*audit.Journal
	options
	cluster  *harness.Cluster
	newer    string         // the program to upgrade to
	ca       string         // folder of the CA that signs now
	sinks    []*sink.Server // of the destinations that are up
	late     string         // where the late destination will listen
	domains  []string
	dead     *harness.Node // killed, and not replaced yet
	traffic  *traffic
	earlier  []load.Answer   // of traffic that has ended
	from     time.Time       // where the present chapter begins
	readings map[int]reading // of then, by process
	figures  []figure
}

// tell starts the cluster and goes through all chapters.
func tell(ctx context.Context, o options, out io.Writer) (err error) {
	w := &world{Journal: &audit.Journal{Out: out}, options: o}
	w.Say("builds the program to upgrade to")
	if w.newer, err = newer.Build(ctx, o.Dir); err != nil {
		return err
	}
	began := time.Now()
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.begin(ctx); err != nil {
		return err
	}
	w.figures = append(w.figures, figure{name: "start 3", took: time.Since(began)})
	for _, c := range chapters {
		if err := w.chapter(ctx, c); err != nil {
			return fmt.Errorf("%s: %w\n%s", c.name, err, w.cluster.Tails(8))
		}
	}
	if err := errors.Join(w.end(ctx, began), w.table()); err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	return w.Verdict("story", func() string { return w.cluster.Tails(8) })
}

// begin starts the nodes and sets what they are to do.
func (w *world) begin(ctx context.Context) error {
	free, err := harness.FreeAddresses(1)
	if err != nil {
		return err
	}
	w.late = free[0]
	up, err := sink.Start(sink.Config{IDHeader: load.HeaderID, Answer: sink.On(sink.Dot, sink.Reply{Delay: replyAfter})})
	if err != nil {
		return err
	}
	w.sinks = append(w.sinks, up)
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	w.cluster, err = harness.Prepare(ready, harness.Config{Binary: w.Binary, Dir: w.Dir, Nodes: 3, Direct: true, Issue: w.issueFirst})
	if err != nil {
		return err
	}
	for _, n := range w.cluster.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	if err := w.cluster.WaitReady(ready); err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	for i := range upDestinations {
		name := fmt.Sprintf("up%d", i+1)
		w.domains = append(w.domains, name+".test")
		if err := w.route(ready, name, name+".test", up.Addr()); err != nil {
			return err
		}
	}
	return w.route(ready, lateDestination, lateDomain, w.late)
}

func (w *world) route(ctx context.Context, destination, domain, host string) error {
	err := w.command(ctx, "destination", "set", destination, "--host", host, "--probe-max", probeMax)
	if err != nil {
		return err
	}
	return w.command(ctx, "domain", "set", domain, "--destination", destination, "--verify", "off")
}

// command is what an operator types, at the first node.
func (w *world) command(ctx context.Context, args ...string) error {
	return w.commandAt(ctx, w.cluster.Nodes[0], args...)
}

// commandAt shows the first line of what the command prints.
func (w *world) commandAt(ctx context.Context, n *harness.Node, args ...string) error {
	output, err := n.CLI(ctx, args...)
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(output), "\n")
	w.Say("%s$ holdfast %s: %s", n.Name, strings.ReplaceAll(strings.Join(args, " "), w.Dir+"/", ""), strings.ReplaceAll(first, w.Dir+"/", ""))
	return nil
}

// status of the first node.
func (w *world) status(ctx context.Context) (s status, err error) {
	return s, w.cluster.Nodes[0].JSON(ctx, &s, "status")
}

type status struct {
	harness.Status
	StateVersion int `json:"stateVersion"`
}

// awaitVoters waits until the cluster says that its nodes are those of the
// harness, that all are alive and that all vote.
func (w *world) awaitVoters(ctx context.Context) error {
	return w.await(ctx, "all nodes as voters", func(ctx context.Context) error {
		s, err := w.status(ctx)
		if err != nil {
			return err
		}
		voters := 0
		for _, n := range s.Nodes {
			if n.Alive && n.Role == "voter" {
				voters++
			}
		}
		if voters != len(s.Nodes) || voters != len(w.cluster.Nodes) {
			return fmt.Errorf("nodes %+v", s.Nodes)
		}
		return nil
	})
}

// patience of each wait.
const patience = 2 * time.Minute

func (w *world) await(ctx context.Context, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return harness.Eventually(ctx, what, check)
}

// follower is a node that doesn't lead, the last of them.
func (w *world) follower(ctx context.Context) (*harness.Node, error) {
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return nil, err
	}
	last := w.cluster.Nodes[len(w.cluster.Nodes)-1]
	if last == leader {
		last = w.cluster.Nodes[len(w.cluster.Nodes)-2]
	}
	return last, nil
}

func (w *world) close() error {
	var errs []error
	if w.traffic != nil {
		errs = append(errs, w.traffic.end())
	}
	if w.cluster != nil {
		errs = append(errs, w.cluster.Close())
	}
	for _, s := range w.sinks {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// copyFile is what `cp` does.
func copyFile(to string, from ...string) error {
	var all []byte
	for _, path := range from {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all = append(all, content...)
	}
	return os.WriteFile(to, all, 0o600)
}
