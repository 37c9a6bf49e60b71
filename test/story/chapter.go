package main

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// chapter is a thing that is done to the cluster under load.
type chapter struct {
	name string
	do   func(*world, context.Context) error
	// Messages that may come twice: 0 where every node leaves in good order.
	duplicates int
	quiet      bool // there is no traffic
	last       bool // nothing need wait any more
}

var chapters = []chapter{
	{name: "load", do: (*world).fillQueue},
	{name: "add 2", do: (*world).addTwo},
	{name: "kill 1", do: (*world).killLeader, duplicates: upDestinations * slots},
	{name: "replace it", do: (*world).replaceDead},
	{name: "remove 1", do: (*world).removeOne},
	{name: "rotate certificates, CA", do: (*world).rotate},
	{name: "upgrade", do: (*world).upgrade},
	{name: "back up", do: (*world).backUp},
	{name: "destroy all, restore", do: (*world).loseAll, quiet: true},
	{name: "release what is held", do: (*world).release},
	{name: "destination comes up", do: (*world).deliver, last: true},
}

// maxGap is how soon mail must be accepted again, whatever happens.
const maxGap = 3 * time.Second

// chapter does one, and checks all that was accepted from the end of the one
// before it to its own. Mail goes on meanwhile, and counts for the next.
func (w *world) chapter(ctx context.Context, c chapter) error {
	w.Say("--- %s", c.name)
	began := time.Now()
	if err := c.do(w, ctx); err != nil {
		return err
	}
	if c.quiet {
		w.figures = append(w.figures, figure{name: c.name, took: time.Since(began)})
		return nil
	}
	if err := until(ctx, w.from.Add(w.least)); err != nil {
		return err
	}
	f, answers, err := w.measure(ctx, c)
	if err != nil {
		return err
	}
	if err := w.awaitEnds(ctx); err != nil {
		return err
	}
	if err := w.audit(ctx, c, &f, answers); err != nil {
		return err
	}
	w.figures = append(w.figures, f)
	return nil
}

// measure ends the chapter's window and begins the next one's.
func (w *world) measure(ctx context.Context, c chapter) (figure, []load.Answer, error) {
	began, ended := w.from, time.Now()
	w.from = ended
	answers := between(w.answers(), began, ended)
	report := load.Report{Began: began, Ended: ended, Window: ended.Sub(began), Answers: answers}
	f := figure{name: c.name, took: report.Window, accepted: report.Count(load.Accepted), rate: report.Rate(), p99: report.Latency(0.99)}
	f.gap, _ = report.LongestGap("", began, ended)
	if f.rate < float64(w.floor) {
		w.Violation("%s: %.0f messages a second were accepted, want %d", c.name, f.rate, w.floor)
	}
	if f.gap > maxGap {
		w.Violation("%s: no 250 for %s", c.name, ms(f.gap))
	}
	news, err := w.meter(ctx)
	if f.accepted > 0 {
		f.cpu = news.cpu / time.Duration(f.accepted)
	}
	f.mayRepeat = c.mayRepeat(news)
	w.sayFigures(f)
	return f, answers, err
}

// deliveryPatience is how long a chapter's deliveries may take behind it before
// its books are compared; what is queued then is counted as that.
const deliveryPatience = 5 * time.Second

// awaitEnds waits until nothing is queued any more that was accepted until now for
// destinations that are up. Where deliveries are slower than that it says so: at
// the end of the story all must have arrived.
func (w *world) awaitEnds(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, deliveryPatience)
	defer cancel()
	until := w.from.UTC().Format(time.RFC3339Nano)
	waiting := 0
	err := harness.Eventually(bounded, "deliveries", func(ctx context.Context) error {
		var count harness.Count
		if err := w.cluster.Nodes[0].JSON(ctx, &count, "queue", "count", "--from", "*@"+senderUp, "--until", until); err != nil {
			return err
		}
		if waiting = count.Pending + count.Held; waiting > 0 {
			return errors.New("some are under way")
		}
		return nil
	})
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		w.Say("at least %d messages wait for destinations that are up, %s after their chapter", waiting, deliveryPatience)
		return nil
	}
	return err
}

// auditMargin: a message's own time is from before its 250.
const auditMargin = 15 * time.Second

// audit compares the chapter's books, and the nodes' states.
func (w *world) audit(ctx context.Context, c chapter, f *figure, answers []load.Answer) (err error) {
	books := audit.Books{Answers: answers, UnderWay: true, MaxDuplicates: f.mayRepeat}
	arrived := func() []sink.Message { return w.arrivals(answers) }
	f.found, err = audit.Compare(ctx, w.Journal, w.cluster.Nodes[0], books, w.from.Add(-f.took-auditMargin), arrived)
	if err != nil {
		return err
	}
	// Claims are at most twice the slots.
	if most := 2 * f.mayRepeat; f.found.InDoubt > most {
		w.Violation("%s: %d messages are in doubt, at most %d may be", f.name, f.found.InDoubt, most)
	}
	f.verified = audit.Verify(ctx, w.Journal, w.cluster)
	if f.queued, err = w.waiting(ctx); err == nil && f.queued < w.queue && !c.last {
		w.Violation("%s: %d messages wait for the destination that is down, want %d", f.name, f.queued, w.queue)
	}
	return err
}

// arrivals are the transactions of the messages that the answers are about.
func (w *world) arrivals(answers []load.Answer) (of []sink.Message) {
	ids := map[string]bool{}
	for _, a := range answers {
		ids[a.ID] = true
	}
	for _, m := range w.arrived() {
		if id, _, _ := strings.Cut(m.From, "@"); ids[id] {
			of = append(of, m)
		}
	}
	return of
}

// arrived is what all destinations saw.
func (w *world) arrived() (all []sink.Message) {
	for _, s := range w.sinks {
		all = append(all, s.Messages()...)
	}
	return all
}

// end compares the books of the whole story.
func (w *world) end(ctx context.Context, began time.Time) error {
	w.Say("--- the whole story")
	if err := w.endTraffic(); err != nil {
		return err
	}
	f := figure{name: "the whole story", took: time.Since(began)}
	books := audit.Books{Answers: w.answers(), MaxDuplicates: audit.NoLimit}
	for _, a := range books.Answers {
		if a.Outcome == load.Accepted {
			f.accepted++
		}
	}
	f.rate = float64(f.accepted) / f.took.Seconds()
	var err error
	if f.found, err = audit.Cluster(ctx, w.Journal, w.cluster, books, w.arrived); err != nil {
		return err
	}
	f.verified = audit.Verify(ctx, w.Journal, w.cluster)
	w.figures = append(w.figures, f)
	return nil
}

// waiting is how many messages every node has queued for the destination that is
// down.
func (w *world) waiting(ctx context.Context) (least int, err error) {
	least = math.MaxInt
	for _, n := range w.cluster.Nodes {
		var count harness.Count
		if err := n.JSON(ctx, &count, "queue", "count", "--destination", lateDestination); err != nil {
			return 0, err
		}
		least = min(least, count.Pending+count.Held)
	}
	return least, nil
}

// until waits for a time.
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
