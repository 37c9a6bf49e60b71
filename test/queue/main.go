// Command queue measures what long queues cost a real cluster, and how soon
// mail goes out of them:
//
//  1. Three server processes run on loopback. Where a queue is too long to be
//     sent in a reasonable time, they are killed at rest, the same acceptances
//     as a front door proposes are appended to the raft log of each (log.go),
//     and they fold them at their next start.
//  2. A run does to the queue's destination what its name says, and reads the
//     processes' memory, processor time and counters, and the destination's own
//     record of connections.
//  3. It prints the figures beside what was promised, and ends with status 1
//     where a promise was broken.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast/test/harness"
	"holdfast/test/program"
)

type options struct {
	harness.Workspace
	run      string
	messages int
	watch    time.Duration
	short    bool
}

// runs by name; short is the number of messages of the short form.
var runs = map[string]struct {
	run         func(context.Context, options, io.Writer) error
	full, short int
	what        string
}{
	"fresh":        {freshRun, 500, 500, "fresh mail beside a flood of deferred spam"},
	"million":      {millionRun, 1_000_000, 20_000, "what a queue costs whose destination is down"},
	"recovery":     {recoveryRun, 5000, 500, "a destination comes back, a whole cluster restarts"},
	"destinations": {destinationsRun, 10_000, 200, "many destinations, half of them down"},
}

func main() { program.Main("queue", parse, run) }

func parse(args []string) (options, error) {
	var o options
	flags := o.Flags("queue")
	flags.StringVar(&o.run, "run", "", "fresh, million, recovery or destinations; with commas between for several")
	flags.IntVar(&o.messages, "messages", 0, "length of the queue (of run destinations: their number); 0 is the run's own")
	flags.DurationVar(&o.watch, "watch", 0, "how long a queue at rest is watched; 0 is the run's own")
	flags.BoolVar(&o.short, "short", false, "smaller and shorter")
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	if o.run == "" || o.messages < 0 || o.watch < 0 {
		return o, errors.New("want -run fresh, million, recovery or destinations; -messages and -watch must be at least 0")
	}
	for name := range strings.SplitSeq(o.run, ",") {
		if _, ok := runs[name]; !ok {
			return o, fmt.Errorf("-run: %q is none of fresh, million, recovery, destinations", name)
		}
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) error {
	return o.Within(ctx, out, func() error { return runNamed(ctx, o, out) })
}

func runNamed(ctx context.Context, o options, out io.Writer) error {
	var errs []error
	for name := range strings.SplitSeq(o.run, ",") {
		r, own := runs[name], o
		if own.messages == 0 {
			own.messages = r.full
			if o.short {
				own.messages = r.short
			}
		}
		fmt.Fprintf(out, "%s: %s\n", name, r.what)
		bounded, cancel := context.WithTimeout(ctx, time.Hour)
		errs = append(errs, r.run(bounded, own, out))
		cancel()
	}
	return errors.Join(errs...)
}
