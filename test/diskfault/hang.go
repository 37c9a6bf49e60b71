package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"holdfast/test/faultfs"
	"holdfast/test/harness"
	"holdfast/test/load"
)

const (
	giveUp = 20 * time.Second // after which a node whose log can't be written ends
	silent = 3 * time.Second  // after which one that leads sends nothing as a leader
	maxGap = 3 * time.Second  // within which the others accept again
	// watchdog is within what time a node must have given up.
	watchdog = 2 * giveUp
)

// hangCase is a set of nodes whose fsync of log and votes hangs.
type hangCase struct {
	what      string
	leader    bool // is one of them
	followers int
	hold      time.Duration // until the release; 0 is until the nodes have ended
}

func hangRun(ctx context.Context, o options, _ *rand.Rand, out io.Writer) (err error) {
	w, err := build(ctx, o, "hang", out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	cases := []hangCase{
		{what: "leader and a follower, released", leader: true, followers: 1, hold: 8 * time.Second},
		{what: "both followers until they end", followers: 2},
		{what: "a follower until it ends", followers: 1},
	}
	if !o.short {
		cases = append(cases,
			hangCase{what: "leader and a follower until they end", leader: true, followers: 1},
			hangCase{what: "the leader until it ends", leader: true},
			hangCase{what: "a follower, released", followers: 1, hold: 8 * time.Second},
		)
	}
	for i, c := range cases {
		if err := w.hang(ctx, o, c, fmt.Sprintf("hang%d", i+1)); err != nil {
			return fmt.Errorf("hang: %s: %w\n%s", c.what, err, w.cluster.Tails(8))
		}
	}
	if err := w.audit(ctx); err != nil {
		return err
	}
	return w.verdict()
}

func (w *world) hang(ctx context.Context, o options, c hangCase, name string) error {
	l, err := w.load(ctx, o, name, nil)
	if err != nil {
		return err
	}
	hung, err := w.hangOf(ctx, l, c)
	if err != nil {
		_, stopErr := l.stop()
		return errors.Join(err, stopErr)
	}
	report, err := l.stop()
	if err != nil {
		return err
	}
	w.checkHang(c, hung, report)
	return nil
}

// hanging is when no fsync of the nodes came back.
type hanging struct {
	from, to time.Time
	nodes    []*harness.Node
}

func (w *world) hangOf(ctx context.Context, l *running, c hangCase) (hanging, error) {
	var h hanging
	if err := w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.cluster.Nodes); err != nil {
		return h, err
	}
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return h, err
	}
	h.nodes = w.others(leader)[:c.followers]
	if c.leader {
		h.nodes = append(h.nodes, leader)
	}
	before := map[*harness.Node]int64{}
	for _, n := range h.nodes {
		before[n] = w.outputNow(n)
		i, err := w.disks[n.Name].Inject(faultfs.Fault{Pattern: "raft/**", Ops: faultfs.Sync, Hang: true})
		if err != nil {
			return h, err
		}
		defer i.Lift()
		// The load makes them sync; the second may wait in vain, as the first
		// one's hanging keeps the leader from sending more.
		if len(h.nodes) == 1 || n != h.nodes[len(h.nodes)-1] {
			select {
			case <-i.Hit():
			case <-time.After(10 * time.Second):
				return h, fmt.Errorf("node %s never synced its log", n.Name)
			}
		}
	}
	h.from = time.Now()
	if c.hold > 0 {
		err = until(ctx, h.from.Add(c.hold))
	} else {
		err = w.waitLastWords(ctx, h.nodes, before)
		if err == nil && len(h.nodes) == 1 {
			// The disk still hangs, and with it the process's end: the others must
			// do without.
			err = w.waitAccepting(ctx, l, time.Now(), 15*time.Second, w.others(h.nodes...))
		}
	}
	h.to = time.Now()
	for _, n := range h.nodes {
		w.disks[n.Name].LiftAll()
	}
	if err != nil {
		return h, err
	}
	return h, w.afterHang(ctx, l, c, h, before)
}

// waitLastWords waits until each has said that it can't go on. It can't end
// before its disk lets go of it: a thread within fsync isn't killed by anything.
func (w *world) waitLastWords(ctx context.Context, nodes []*harness.Node, before map[*harness.Node]int64) error {
	ctx, cancel := context.WithTimeout(ctx, watchdog)
	defer cancel()
	began := time.Now()
	for _, n := range nodes {
		err := harness.Eventually(ctx, "node "+n.Name+" to give up", func(context.Context) error {
			output, _, err := n.Output(before[n])
			if err == nil && len(lastWords(output)) == 0 {
				err = errors.New("it has said nothing")
			}
			return err
		})
		if err != nil {
			w.Violation("%v", err)
			continue
		}
		w.Say("node %s gave up %s after its fsync began to hang", n.Name, time.Since(began).Round(100*time.Millisecond))
	}
	return nil
}

// afterHang restarts what ended, and wants all nodes to accept again.
func (w *world) afterHang(ctx context.Context, l *running, c hangCase, h hanging, before map[*harness.Node]int64) error {
	for _, n := range h.nodes {
		if c.hold > 0 {
			continue
		}
		if w.checkEnd(ctx, n, before[n], 5*time.Second) {
			if err := w.restart(ctx, n); err != nil {
				return err
			}
		}
	}
	released := time.Now()
	if err := w.waitAccepting(ctx, l, released, 30*time.Second, w.cluster.Nodes); err != nil {
		return err
	}
	w.Say("all nodes accept again %s after the release", time.Since(h.to).Round(time.Millisecond))
	return nil
}

// checkHang wants no 250 while a majority hung, and mail going on where one did.
func (w *world) checkHang(c hangCase, h hanging, report *load.Report) {
	healthy := w.others(h.nodes...)
	if len(h.nodes) == 1 {
		for _, n := range healthy {
			gap, _ := report.LongestGap(n.SMTP, h.from, h.to)
			w.Say("%s: node %s went %s at most without a 250, of %s", c.what, n.Name, gap.Round(time.Millisecond), h.to.Sub(h.from).Round(time.Millisecond))
			limit := maxGap
			if c.leader {
				limit += silent
			}
			if gap > limit {
				w.Violation("%s: node %s didn't accept for %s", c.what, n.Name, gap.Round(time.Millisecond))
			}
		}
		return
	}
	accepted, deferred, none, late := 0, 0, 0, 0
	for _, a := range report.Answers {
		if a.At.Before(h.from) || a.At.After(h.to) {
			continue
		}
		switch {
		case a.Outcome == load.Accepted && a.Dot.After(h.from):
			accepted++
			w.Say("accepted: %s by %s, dot %s and reply %s after the disks hung", a.ID, a.Address, a.Dot.Sub(h.from), a.At.Sub(h.from))
		case a.Outcome == load.Accepted:
			late++ // it was on two disks before
		case a.Outcome == load.Deferred:
			deferred++
		case a.Outcome == load.Refused:
			w.Violation("%s: refused for good while the disks hung: %s", c.what, a.Reply)
		default:
			none++
		}
	}
	w.Say("%s: in %s two disks hung: %d answered 250 (and %d sent before it), %d answered 4xx, %d not answered",
		c.what, h.to.Sub(h.from).Round(time.Millisecond), accepted, late, deferred, none)
	if accepted > 0 {
		w.Violation("%s: %d messages were accepted while a majority's disks hung", c.what, accepted)
	}
}
