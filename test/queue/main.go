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
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/test/harness"
)

type options struct {
	binary   string
	dir      string
	run      string
	messages int
	watch    time.Duration
	short    bool
	keep     bool
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

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "queue:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "queue:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("queue", flag.ContinueOnError)
	flags.StringVar(&o.binary, "binary", "", "holdfast executable; built where empty")
	flags.StringVar(&o.dir, "dir", "build", "folder for data and logs")
	flags.StringVar(&o.run, "run", "", "fresh, million, recovery or destinations; with commas between for several")
	flags.IntVar(&o.messages, "messages", 0, "length of the queue (of run destinations: their number); 0 is the run's own")
	flags.DurationVar(&o.watch, "watch", 0, "how long a queue at rest is watched; 0 is the run's own")
	flags.BoolVar(&o.short, "short", false, "smaller and shorter")
	flags.BoolVar(&o.keep, "keep", false, "keep data and logs; they are kept after a failure anyway")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.run == "" || o.messages < 0 || o.watch < 0 {
		return o, errors.New("want -run fresh, million, recovery or destinations, and nothing behind the flags")
	}
	for name := range strings.SplitSeq(o.run, ",") {
		if _, ok := runs[name]; !ok {
			return o, fmt.Errorf("-run: %q is none of fresh, million, recovery, destinations", name)
		}
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	base, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp(base, "queue-"); err != nil {
		return err
	}
	defer func() {
		if err != nil || o.keep {
			fmt.Fprintln(out, "data and logs are in", o.dir)
			return
		}
		err = os.RemoveAll(o.dir)
	}()
	if o.binary == "" {
		if o.binary, err = harness.Build(ctx, o.dir); err != nil {
			return err
		}
	}
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
