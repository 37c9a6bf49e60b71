package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// How soon survivors must accept mail again, and deliver what was the dead
// node's to deliver, in 99 of 100 cases.
const (
	acceptBudget  = 3 * time.Second
	deliverBudget = 6 * time.Second
)

// failover is one death of a leader and what it cost.
type failover struct {
	death
	gone time.Time // the process had ended

	// From the kill on:
	first    time.Duration   // until a survivor answered 250
	all      time.Duration   // until each survivor had
	takeover []time.Duration // until the first delivery to each destination that the node owned
}

// failoverRun kills the leader with kill -9 again and again under load, each
// time one with deliveries under way, and starts it again.
func failoverRun(ctx context.Context, o options, out io.Writer) (err error) {
	w, err := build(ctx, o, "failover", 12, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	d, err := startDestination(w.next, 100*time.Millisecond)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	log, err := os.Create(filepath.Join(o.Dir, "failover", "answers"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	// The rate is low: the time to the next 250 is measured, not the throughput,
	// and the books of half an hour must fit into memory.
	loader, err := load.New(load.Config{
		Addresses: w.cluster.SMTP(), Sessions: o.sessions, Run: "failover", Duration: time.Hour,
		Recipients: w.recipients(), Size: 1 << 10, Admit: unhurried, Log: log,
	})
	if err != nil {
		return err
	}
	w.Say("failover run: %d deaths of the leader under %d sessions, answers in %s", o.kills, o.sessions, log.Name())
	report, deaths, err := w.killLeaders(ctx, o.kills, loader, d)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	limit := 0
	for _, f := range deaths {
		limit += f.owned.slots
	}
	found, err := w.audit(ctx, audit.Books{MaxDuplicates: limit, HeldAllowed: true}, report, d)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	w.judge(measure(deaths, report, d), found)
	return w.verdict("failover run")
}

// unhurried leaves a pause before each message of a session.
func unhurried(ctx context.Context) bool {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// killLeaders runs the loader and the killing side by side.
func (w *world) killLeaders(ctx context.Context, kills int, loader *load.Loader, d *destination) (*load.Report, []failover, error) {
	loadCtx, endLoad := context.WithCancel(ctx)
	defer endLoad()
	var report *load.Report
	var loadErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, loadErr = loader.Run(loadCtx)
	}()
	var deaths []failover
	var err error
	for i := 0; i < kills && err == nil; i++ {
		var f failover
		if f, err = w.failOver(ctx, loader, d); err == nil {
			deaths = append(deaths, f)
		}
	}
	endLoad()
	<-done
	return report, deaths, errors.Join(err, loadErr)
}

// failOver kills a leader at work, waits until its work is taken over, and
// starts it again.
func (w *world) failOver(ctx context.Context, loader *load.Loader, d *destination) (f failover, err error) {
	// A node that came back owns nothing for half a minute.
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	f.role = "leader"
	err = harness.Eventually(bounded, "a leader with claims", func(ctx context.Context) (err error) {
		if f.node, err = w.cluster.Leader(ctx); err != nil {
			return err
		}
		if f.owned, err = ownedBy(ctx, f.node); err != nil {
			return err
		}
		if f.owned.claims == 0 {
			return fmt.Errorf("node %s: %d destinations, no claims", f.node.Name, len(f.owned.destinations))
		}
		f.at = time.Now()
		if err := f.node.Kill(); err != nil {
			return harness.Final(err)
		}
		f.gone = time.Now()
		return nil
	})
	if err != nil {
		return f, err
	}
	w.Say("kill -9 of node %s, the leader, with %d destinations and %d claims", f.node.Name, len(f.owned.destinations), f.owned.claims)
	if err := w.waitAccepting(ctx, f.node, f.gone, loader); err != nil {
		return f, err
	}
	if err := f.waitTakeover(ctx, d); err != nil {
		return f, err
	}
	return f, w.restart(ctx, f.node)
}

// waitTakeover waits until the survivors have delivered to each destination of
// the dead node.
func (f *failover) waitTakeover(ctx context.Context, d *destination) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	read := len(d.Messages())
	var left []string
	for _, name := range f.owned.destinations {
		left = append(left, domainOf(name))
	}
	err := d.Wait(ctx, func(all []sink.Message) bool {
		for _, m := range all[read:] {
			if m.Committed && m.Started.After(f.gone) {
				left = slices.DeleteFunc(left, func(domain string) bool { return isFor(m, domain) })
			}
		}
		read = len(all)
		return len(left) == 0
	})
	if err != nil {
		return fmt.Errorf("no delivery by the survivors to %s after the death of %s: %w", strings.Join(left, ", "), f.node.Name, err)
	}
	return nil
}

func isFor(m sink.Message, domain string) bool {
	return len(m.Recipients) > 0 && strings.HasSuffix(m.Recipients[0].Address, "@"+domain)
}

// measure reads the times from the two books. An answer counts if its final dot
// was sent after the death: an earlier one may have been on its way already.
func measure(deaths []failover, report *load.Report, d *destination) []failover {
	messages, nodes := d.Messages(), d.nodes()
	for i := range deaths {
		f := &deaths[i]
		next := map[string]time.Duration{}
		for _, a := range report.Answers {
			if a.Outcome != load.Accepted || a.Address == f.node.SMTP || !a.Dot.After(f.gone) {
				continue
			}
			if _, seen := next[a.Address]; !seen {
				next[a.Address] = a.At.Sub(f.at)
			}
		}
		for _, after := range next {
			f.all = max(f.all, after)
			if f.first == 0 || after < f.first {
				f.first = after
			}
		}
		for _, name := range f.owned.destinations {
			for _, m := range messages {
				if m.Committed && m.Started.After(f.gone) && isFor(m, domainOf(name)) && nodes[m.Conn] != f.node.Hostname() {
					f.takeover = append(f.takeover, m.Done.Sub(f.at))
					break
				}
			}
		}
	}
	return deaths
}
