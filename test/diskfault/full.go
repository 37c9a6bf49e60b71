package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"holdfast/test/faultfs"
	"holdfast/test/harness"
	"holdfast/test/load"
)

// fullCase is a set of nodes whose disks take nothing more.
type fullCase struct {
	what      string
	leader    bool // is one of them
	followers int
}

// fullRun fills disks. First as it should come, with the reserve ahead of it: new
// mail is answered 452 and what is there is delivered. Then without a warning: a
// node that can't write ends, and what its clients were told holds all the same.
func fullRun(ctx context.Context, o options, _ *rand.Rand, out io.Writer) (err error) {
	w, err := build(ctx, o, "full", out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for i, low := range []int{1, 2} {
		if err := w.low(ctx, o, fmt.Sprintf("low%d", i+1), low); err != nil {
			return fmt.Errorf("full: reserve reached on %d: %w\n%s", low, err, w.cluster.Tails(8))
		}
	}
	cases := []fullCase{
		{what: "a follower", followers: 1},
		{what: "the leader", leader: true},
		{what: "both followers", followers: 2},
		{what: "leader and a follower", leader: true, followers: 1},
	}
	for i, c := range cases {
		if o.short && i == len(cases)-1 {
			break
		}
		if err := w.full(ctx, o, c, fmt.Sprintf("full%d", i+1)); err != nil {
			return fmt.Errorf("full: %s: %w\n%s", c.what, err, w.cluster.Tails(8))
		}
	}
	if err := w.audit(ctx); err != nil {
		return err
	}
	return w.verdict()
}

// low has some nodes' disks reach their reserve, and then have room again.
func (w *world) low(ctx context.Context, o options, name string, count int) error {
	l, err := w.load(ctx, o, name, nil)
	if err != nil {
		return err
	}
	if err = w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.cluster.Nodes); err == nil {
		err = w.lowUnder(ctx, l, count)
	}
	report, stopErr := l.stop()
	if err := errors.Join(err, stopErr); err != nil {
		return err
	}
	w.sayAnswers(fmt.Sprintf("reserve reached on %d", count), report)
	return nil
}

func (w *world) lowUnder(ctx context.Context, l *running, count int) error {
	nodes := w.cluster.Nodes[:count]
	refusing := nodes
	if count > 1 {
		refusing = w.cluster.Nodes // the room of one is no majority's
	}
	began := time.Now()
	for _, n := range nodes {
		w.disks[n.Name].ReportFree(1 << 20)
		defer w.disks[n.Name].ReportFree(-1)
	}
	for _, n := range refusing {
		if err := w.waitReply(ctx, n, "452 4.3.1"); err != nil {
			return err
		}
	}
	w.Say("reserve reached on %d of %d nodes: %d of them answer 452 4.3.1 after %s",
		count, len(w.cluster.Nodes), len(refusing), time.Since(began).Round(time.Millisecond))
	if count == 1 {
		if err := w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.others(nodes...)); err != nil {
			return err
		}
	}
	// Delivery goes on: what is there goes out.
	if err := w.waitDelivered(ctx, count > 1); err != nil {
		return err
	}
	for _, n := range nodes {
		w.disks[n.Name].ReportFree(-1)
	}
	return w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.cluster.Nodes)
}

// waitReply asks a node for MAIL until it answers so.
func (w *world) waitReply(ctx context.Context, n *harness.Node, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return harness.Eventually(ctx, want+" from node "+n.Name, func(ctx context.Context) error {
		reply, err := replyToMail(ctx, n.SMTP)
		if err == nil && !strings.HasPrefix(reply, want) {
			return fmt.Errorf("it answers %q", reply)
		}
		return err
	})
}

// waitDelivered waits for more mail at the destination, or for an empty queue.
func (w *world) waitDelivered(ctx context.Context, empty bool) error {
	before := w.sink.Stats().Committed
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return harness.Eventually(ctx, "deliveries", func(ctx context.Context) error {
		if !empty && w.sink.Stats().Committed > before {
			return nil
		}
		var count harness.Count
		if err := w.cluster.Nodes[0].JSON(ctx, &count, "queue", "count"); err != nil {
			return err
		}
		if !empty || count.Pending > 0 {
			return fmt.Errorf("%d pending, %d delivered", count.Pending, w.sink.Stats().Committed-before)
		}
		return nil
	})
}

// full lets every write on some nodes' disks fail with ENOSPC until they have
// ended; with room again they come back.
func (w *world) full(ctx context.Context, o options, c fullCase, name string) error {
	l, err := w.load(ctx, o, name, nil)
	if err != nil {
		return err
	}
	victims, hit, err := w.fullOf(ctx, l, c)
	if err == nil {
		err = w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.cluster.Nodes)
	}
	report, stopErr := l.stop()
	if err := errors.Join(err, stopErr); err != nil {
		return err
	}
	w.sayAnswers("disk full on "+c.what, report)
	for _, n := range w.others(victims...) {
		gap, _ := report.LongestGap(n.SMTP, hit, time.Now())
		w.Say("node %s: longest time without a 250 %s", n.Name, gap.Round(time.Millisecond))
		if len(victims) == 1 && gap > 2*maxGap {
			w.Violation("node %s accepted nothing for %s with the disk of %s full", n.Name, gap.Round(time.Millisecond), c.what)
		}
	}
	return nil
}

func (w *world) fullOf(ctx context.Context, l *running, c fullCase) (victims []*harness.Node, hit time.Time, err error) {
	if err := w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.cluster.Nodes); err != nil {
		return nil, hit, err
	}
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return nil, hit, err
	}
	victims = w.others(leader)[:c.followers]
	if c.leader {
		victims = append(victims, leader)
	}
	since := map[*harness.Node]int64{}
	hit = time.Now()
	for _, n := range victims {
		since[n] = w.outputNow(n)
		fault, err := w.disks[n.Name].Inject(faultfs.Fault{Pattern: "**", Ops: faultfs.Write | faultfs.Create, Errno: syscall.ENOSPC})
		if err != nil {
			return victims, hit, err
		}
		defer fault.Lift()
	}
	for _, n := range victims {
		w.checkEnd(ctx, n, since[n], 30*time.Second)
	}
	others := w.others(victims...)
	if len(others) > len(w.cluster.Nodes)/2 {
		err = w.waitAccepting(ctx, l, time.Now(), 30*time.Second, others)
	} else {
		err = w.waitReply(ctx, others[0], "451 4.3.2")
		w.Say("node %s alone answers 451 4.3.2", others[0].Name)
	}
	if err != nil {
		return victims, hit, err
	}
	for _, n := range victims {
		w.disks[n.Name].LiftAll()
	}
	for _, n := range victims {
		if err := n.Start(); err != nil {
			return victims, hit, err
		}
	}
	return victims, hit, w.cluster.WaitReady(ctx)
}

// sayAnswers counts what clients saw.
func (w *world) sayAnswers(what string, report *load.Report) {
	replies := map[string]int{}
	for _, a := range report.Answers {
		code, _, _ := strings.Cut(a.Reply, " ")
		if a.Outcome == load.Deferred {
			replies[code]++
		}
	}
	w.Say("%s, clients saw: 250 %d times, 4xx %v, 5xx %d times; cut off before the final dot %d, after it %d",
		what, report.Count(load.Accepted), replies, report.Count(load.Refused), report.Count(load.Lost), report.Count(load.Unknown))
}
