package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
)

// silentAfter is when a node that lost the others must have fallen silent: a
// lease of 2 s, and a moment for what its last instant began.
const silentAfter = 2500 * time.Millisecond

// separation is one way to lose a node that doesn't die.
type separation struct {
	name   string
	role   string // of the node: leader or follower
	hold   string // what its deliveries are in: content, reply or "" (as it comes)
	inData bool   // a client must be in DATA with it
	short  bool   // part of the short form

	cut      func(n *harness.Network, node string) // nil: it is paused
	flapping bool                                  // cut and healed again and again
}

var separations = []separation{
	{name: "leader cut off", role: "leader", hold: "content", cut: (*harness.Network).Isolate, short: true},
	{name: "follower cut off", role: "follower", hold: "content", cut: (*harness.Network).Isolate},
	{name: "leader heard by nobody", role: "leader", hold: "reply", cut: (*harness.Network).Mute},
	{name: "leader hears nobody", role: "leader", hold: "content", cut: (*harness.Network).Deafen},
	{name: "follower heard by nobody", role: "follower", hold: "content", cut: (*harness.Network).Mute},
	{name: "follower hears nobody", role: "follower", hold: "reply", cut: (*harness.Network).Deafen, short: true},
	{name: "leader flapping", role: "leader", cut: (*harness.Network).Isolate, flapping: true},
	{name: "leader paused, client in DATA", role: "leader", inData: true},
	{name: "follower paused, client in DATA", role: "follower", inData: true},
	{name: "leader paused before the dot", role: "leader", hold: "content"},
	{name: "follower paused before the dot", role: "follower", hold: "content", short: true},
	{name: "follower paused, reply due", role: "follower", hold: "reply"},
}

// result is a line of the table.
type result struct {
	name string
	gap  time.Duration // longest time without a 250 at a survivor
	cut  int           // attempts of the node that ended before their content did
	audit.Findings
	err error
}

// partitionRun separates a node in every way, each in a cluster of its own.
func partitionRun(ctx context.Context, o options, out io.Writer) error {
	var results []result
	for i, s := range separations {
		if o.short && !s.short || ctx.Err() != nil {
			continue
		}
		r := separate(ctx, o, s, fmt.Sprintf("p%02d", i+1), out)
		r.name = s.name
		results = append(results, r)
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "case\twithout 250 at survivors\tattempts cut\tduplicates\tin doubt\theld\tpromises")
	var errs []error
	for _, r := range results {
		verdict := "kept"
		if r.err != nil {
			verdict = "BROKEN"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", r.name, r.gap.Round(time.Millisecond), r.cut, r.Duplicates, r.InDoubt, r.Held, verdict)
		errs = append(errs, r.err)
	}
	return errors.Join(append(errs, table.Flush())...)
}

// separate runs one case: load, a node in the middle of its work, the fault,
// the healing, and the books.
func separate(ctx context.Context, o options, s separation, dir string, out io.Writer) (r result) {
	w, err := build(ctx, o, dir, 12, out)
	if err != nil {
		return result{err: err}
	}
	defer func() { r.err = errors.Join(r.err, w.close()) }()
	d, err := startDestination(w.next, 100*time.Millisecond)
	if err != nil {
		return result{err: err}
	}
	defer func() { r.err = errors.Join(r.err, d.Close()) }()
	loader, err := load.New(load.Config{
		Addresses: w.cluster.SMTP(), Sessions: o.sessions, Run: dir, Duration: 3 * time.Minute,
		Recipients: w.recipients(), Size: 2 << 10, LongEvery: 60, LongSize: longSize,
		SlowEvery: 25, SlowFor: 700 * time.Millisecond, PerConnection: 50, Backoff: 200 * time.Millisecond,
	})
	if err != nil {
		return result{err: err}
	}
	w.Say("--- %s", s.name)
	f := &fault{world: w, separation: s, loader: loader, destination: d}
	report, err := f.underLoad(ctx)
	if err != nil {
		return result{err: fmt.Errorf("%s: %w\n%s", s.name, err, w.cluster.Tails(8))}
	}
	r.gap = f.checkSurvivors(report)
	f.checkSilence(report)
	r.cut = f.checkAttempts()
	limit, err := f.maxDuplicates(ctx)
	if err != nil {
		return result{err: err}
	}
	if r.Findings, err = w.audit(ctx, audit.Books{MaxDuplicates: limit}, report, d); err != nil {
		return result{err: err}
	}
	w.verify(ctx)
	r.err = w.verdict(s.name)
	return r
}
