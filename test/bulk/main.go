// Command bulk measures what an operation on a long queue costs everybody else. It
// starts a cluster of three processes, has many recipients accepted by SMTP for a
// destination that is down, and then has all of them retried and deleted, while
// mail for another destination flows. It prints how many were delivered a second
// before, during and after, and the longest time without a delivery.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/program"
	"holdfast/test/sink"
)

type options struct {
	harness.Workspace
	recipients, each int
	sessions         int
	calm             time.Duration // before and after
	stall            time.Duration // the longest time without a delivery
}

func main() { program.Main("bulk", parse, run) }

func parse(args []string) (options, error) {
	var o options
	flags := o.Flags("bulk")
	flags.IntVar(&o.recipients, "recipients", 1_000_000, "recipients that wait")
	flags.IntVar(&o.each, "each", 200, "recipients of a message, at most 1,000")
	flags.IntVar(&o.sessions, "sessions", 4, "SMTP sessions of the mail that flows")
	flags.DurationVar(&o.calm, "calm", 15*time.Second, "how long to measure before and after")
	flags.DurationVar(&o.stall, "stall", 2*time.Second, "longest time without a delivery that is no failure")
	short := flags.Bool("short", false, "20,000 recipients, and 3 seconds before and after")
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	if *short {
		o.recipients, o.calm = 20_000, 3*time.Second
	}
	if o.each < 1 || o.each > 1000 || o.recipients < o.each || o.recipients%o.each > 0 {
		return o, errors.New("-each must be 1 to 1,000, and -recipients a multiple of it")
	}
	if o.sessions < 1 || o.calm <= 0 || o.stall <= 0 {
		return o, errors.New("-sessions must be at least 1, -calm and -stall more than 0")
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) error {
	return o.Within(ctx, out, func() error { return measure(ctx, o, out) })
}

func measure(ctx context.Context, o options, out io.Writer) (err error) {
	w, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	began := time.Now()
	if err := w.fill(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d recipients of %d messages wait, accepted in %v\n",
		o.recipients, o.recipients/o.each, time.Since(began).Round(time.Second))
	if err := w.flow(ctx); err != nil {
		return err
	}
	m := newMeter(w.server)
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"before", w.calm},
		{"retry", w.operate("retry", "--destination", "away", "--yes", "--reason", "measured")},
		{"between", w.calm},
		{"delete", w.operate("delete", "--destination", "away", "--yes", "--reason", "measured")},
		{"after", w.calm},
	}
	for _, step := range steps {
		if err := m.during(ctx, step.name, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	report, err := w.stop()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "mail that flowed: %d accepted, %d refused or lost\n", report.Count(load.Accepted),
		report.Count(load.Deferred)+report.Count(load.Refused)+report.Count(load.Lost))
	return m.print(out, o)
}

// meter counts deliveries by phase.
type meter struct {
	server *sink.Server
	phases []phase
}

type phase struct {
	name      string
	took      time.Duration
	delivered int
	longest   time.Duration // without a delivery
}

func newMeter(server *sink.Server) *meter { return &meter{server: server} }

// during measures while something is done.
func (m *meter) during(ctx context.Context, name string, do func(context.Context) error) error {
	watching, stop := context.WithCancel(ctx)
	longest := make(chan time.Duration, 1)
	began, first := time.Now(), m.server.Stats().Committed
	go func() { longest <- m.watch(watching) }()
	err := do(ctx)
	took, last := time.Since(began), m.server.Stats().Committed
	stop()
	m.phases = append(m.phases, phase{name: name, took: took, delivered: last - first, longest: <-longest})
	return err
}

// watch returns the longest time without a delivery once ctx ends.
func (m *meter) watch(ctx context.Context) (longest time.Duration) {
	seen, since := m.server.Stats().Committed, time.Now()
	for {
		err := m.server.WaitStats(ctx, func(s sink.Stats) bool {
			changed := s.Committed > seen
			seen = s.Committed
			return changed
		})
		longest = max(longest, time.Since(since))
		if err != nil {
			return longest
		}
		since = time.Now()
	}
}

func (m *meter) print(out io.Writer, o options) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "phase\ttook\trecipients a second\tdelivered a second\tlongest without a delivery")
	stalled := ""
	for _, p := range m.phases {
		rate := "-"
		if p.name == "retry" || p.name == "delete" {
			rate = fmt.Sprintf("%.0f", float64(o.recipients)/p.took.Seconds())
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%.0f\t%v\n", p.name, p.took.Round(100*time.Millisecond), rate,
			float64(p.delivered)/p.took.Seconds(), p.longest.Round(time.Millisecond))
		if p.longest > o.stall {
			stalled = p.name
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if stalled != "" {
		return fmt.Errorf("deliveries stalled: nothing for more than %v (%s)", o.stall, stalled)
	}
	return nil
}

// calm lets mail flow.
func (w *world) calm(ctx context.Context) error {
	timer := time.NewTimer(w.options.calm)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// operate runs a command of `queue` and wants it to have hit all that waits.
func (w *world) operate(args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		out, err := w.cluster.Nodes[0].CLI(ctx, append([]string{"queue"}, args...)...)
		if err != nil {
			return err
		}
		var messages, recipients int
		if _, err := fmt.Sscanf(string(out), "%d messages with %d recipients", &messages, &recipients); err != nil || recipients < w.options.recipients-w.options.recipients/1000-tried {
			return errors.Join(fmt.Errorf("it said %q, want %d recipients", out, w.options.recipients), err)
		}
		return nil
	}
}

// tried is how many recipients may be under way as a probe at the time: those of
// one transaction. An operation that takes minutes meets several.
const tried = 50
