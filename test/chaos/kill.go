package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
)

// death is a node killed in the middle of its work.
type death struct {
	node     *harness.Node
	role     string
	at       time.Time // just before: what it had open then it has no more
	owned    owned
	inFlight int // transactions it had open with the destination
	inData   int // sessions with it that were in the middle of DATA
}

// killRun keeps a cluster under load while its leader, then a follower, gets
// kill -9 and is started again.
func killRun(ctx context.Context, o options, out io.Writer) (err error) {
	w, err := build(ctx, o, "kill", 12, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	d, err := startDestination(w.next, 25*time.Millisecond)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	log, err := os.Create(filepath.Join(o.Dir, "kill", "answers"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	loader, err := load.New(load.Config{
		Addresses: w.cluster.SMTP(), Sessions: o.sessions, Run: "kill", Duration: o.duration,
		Recipients: w.recipients(), Size: 2 << 10, LongEvery: 200, LongSize: 600 << 10,
		SlowEvery: 60, SlowFor: 700 * time.Millisecond, PerConnection: 50, Log: log,
	})
	if err != nil {
		return err
	}
	w.Say("kill run: %d sessions for %s over %d nodes, answers in %s", o.sessions, o.duration, len(w.cluster.Nodes), log.Name())
	report, deaths, err := w.underLoad(ctx, o, loader, d)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	w.checkGaps(report, deaths)
	limit := 0
	for _, death := range deaths {
		limit += death.owned.slots
		w.checkDeath(report, death)
	}
	if _, err := w.audit(ctx, audit.Books{MaxDuplicates: limit}, report, d); err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	return w.verdict("kill run")
}

// underLoad runs the loader and the killing side by side. A killer that fails
// ends the load.
func (w *world) underLoad(ctx context.Context, o options, loader *load.Loader, d *destination) (*load.Report, []death, error) {
	loadCtx, endLoad := context.WithCancel(ctx)
	defer endLoad()
	type loaded struct {
		report *load.Report
		err    error
	}
	done := make(chan loaded, 1)
	began := time.Now()
	go func() {
		report, err := loader.Run(loadCtx)
		done <- loaded{report, err}
	}()
	var deaths []death
	var killErr error
	for _, plan := range []struct {
		role string
		at   time.Duration
	}{{"leader", o.duration / 4}, {"follower", o.duration * 5 / 8}} {
		victim, err := w.killOne(ctx, plan.role, began.Add(plan.at), loader, d, deaths)
		if err != nil {
			killErr = err
			endLoad()
			break
		}
		deaths = append(deaths, victim)
	}
	end := <-done
	return end.report, deaths, errors.Join(killErr, end.err)
}

// killOne waits for its time, chooses, kills, and starts the node again once
// the survivors accept.
func (w *world) killOne(ctx context.Context, role string, at time.Time, loader *load.Loader, d *destination, before []death) (death, error) {
	if err := until(ctx, at); err != nil {
		return death{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	victim := death{role: role}
	err := harness.Eventually(bounded, "a "+role+" with claims and sessions in DATA", func(ctx context.Context) (err error) {
		victim.node, err = w.choose(ctx, role, before)
		if err != nil {
			return err
		}
		if victim.owned, err = ownedBy(ctx, victim.node); err != nil {
			return err
		}
		// A session that sends its last line while the node is still looked at was in
		// the middle of DATA all the same.
		victim.at = time.Now()
		victim.inData = loader.InData(victim.node.SMTP)
		victim.inFlight = d.inFlight(victim.node.Hostname())
		if victim.owned.claims == 0 || victim.inData == 0 || victim.inFlight == 0 {
			return fmt.Errorf("node %s: %d destinations, %d claims, %d transactions open, %d sessions in DATA",
				victim.node.Name, len(victim.owned.destinations), victim.owned.claims, victim.inFlight, victim.inData)
		}
		if err := victim.node.Kill(); err != nil {
			return harness.Final(err)
		}
		return nil
	})
	if err != nil {
		return victim, err
	}
	w.Say("kill -9 of node %s, the %s: it owned %d destinations with %d slots, %d claims, %d open transactions, and had %d sessions in DATA",
		victim.node.Name, role, len(victim.owned.destinations), victim.owned.slots, victim.owned.claims, victim.inFlight, victim.inData)
	if err := w.waitAccepting(ctx, victim.node, time.Now(), loader); err != nil {
		return victim, err
	}
	return victim, w.restart(ctx, victim.node)
}

// choose finds the leader, or a follower that hasn't died yet: one that has
// just come back owns nothing for a while.
func (w *world) choose(ctx context.Context, role string, before []death) (*harness.Node, error) {
	leader, err := w.cluster.Leader(ctx)
	if err != nil || role == "leader" {
		return leader, err
	}
	for _, n := range w.survivors(leader) {
		died := false
		for _, d := range before {
			died = died || d.node == n
		}
		if !died {
			return n, nil
		}
	}
	// The leader is the one that hasn't died; any follower will do.
	return w.survivors(leader)[0], nil
}

// waitAccepting waits until the survivors have taken some mail since the death.
func (w *world) waitAccepting(ctx context.Context, victim *harness.Node, dead time.Time, loader *load.Loader) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return harness.Eventually(ctx, "250 from the survivors", func(context.Context) error {
		for _, n := range w.survivors(victim) {
			// Replies that were on their way prove nothing: those after a moment do.
			if last := loader.LastAccepted(n.SMTP); last.Before(dead.Add(500 * time.Millisecond)) {
				return fmt.Errorf("node %s accepted nothing since", n.Name)
			}
		}
		return nil
	})
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

// maxGap is how soon survivors must accept again.
const maxGap = 3 * time.Second

func (w *world) checkGaps(report *load.Report, deaths []death) {
	end := report.Began.Add(report.Window)
	for i, death := range deaths {
		to := end
		if i+1 < len(deaths) {
			to = deaths[i+1].at
		}
		for _, n := range w.survivors(death.node) {
			gap, began := report.LongestGap(n.SMTP, death.at, to)
			w.Say("after the death of %s (%s), node %s: longest time without a 250 %s, from %s on",
				death.node.Name, death.role, n.Name, gap.Round(time.Millisecond), began.Sub(death.at).Round(time.Millisecond))
			if gap > maxGap {
				w.Violation("node %s didn't accept for %s after the death of %s", n.Name, gap.Round(time.Millisecond), death.node.Name)
			}
		}
	}
	for _, n := range w.cluster.Nodes {
		gap, _ := report.LongestGap(n.SMTP, report.Began, end)
		w.Say("node %s: longest gap between 250s in the whole run %s", n.Name, gap.Round(time.Millisecond))
	}
	gap, began := report.LongestGap("", report.Began, end)
	w.Say("LONGEST GAP over all nodes: %s, %s into the run", gap.Round(time.Millisecond), began.Sub(report.Began).Round(time.Millisecond))
}

// checkDeath finds in the clients' own answers that sessions were cut off in
// the middle of DATA: what was asserted before the kill held at the kill. A
// dot that was sent after the death, into a dead connection, proves it too.
func (w *world) checkDeath(report *load.Report, death death) {
	before, inData, waiting := 0, 0, 0
	for _, a := range report.Answers {
		if a.Address != death.node.SMTP || a.At.Before(death.at) || a.At.After(death.at.Add(2*time.Second)) {
			continue
		}
		switch {
		case a.Outcome == load.Lost && a.Phase == "mail":
			before++
		case a.Outcome == load.Lost, a.Outcome == load.Unknown && a.Dot.After(death.at):
			inData++
		case a.Outcome == load.Unknown:
			waiting++
		}
	}
	w.Say("connections that node %s cut off by its death: %d before DATA, %d in DATA, %d waiting for the last reply",
		death.node.Name, before, inData, waiting)
	if inData == 0 {
		w.Violation("no session was in DATA with node %s when it died", death.node.Name)
	}
}
