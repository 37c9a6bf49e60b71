// Command diskfault runs a real cluster on disks that fail, and checks that every
// promise about mail was kept:
//
//  1. Each of three server processes has its data on a file system of its own that
//     can be told to fail, hang, lie, or lose what wasn't fsynced (test/faultfs).
//  2. Clients send mail without a pause and write down every answer.
//  3. A run does one kind of harm: an fsync that hangs; the power of all nodes cut
//     at once; errors at each kind of write; an fsync that lies; the power cut
//     within the first second of the first start; full disks, with the reserve
//     ahead of them and without.
//  4. When the queue is empty, the clients' answers are compared with the mail at
//     the destination and with the log of the cluster, and the nodes' digests
//     with each other.
//  5. It prints figures, and ends with status 1 where a promise was broken.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"holdfast/test/faultfs"
	"holdfast/test/harness"
	"holdfast/test/program"
)

type options struct {
	harness.Workspace
	runs     []string
	logStore string
	rounds   int
	sessions int
	seed     uint64
	short    bool
}

// namedRun is one kind of harm; chance is seeded, so that -seed repeats its choices.
type namedRun struct {
	name string
	do   func(ctx context.Context, o options, chance *rand.Rand, out io.Writer) error
}

func allRuns() []namedRun {
	return []namedRun{{"first", firstRun}, {"power", powerRun}, {"hang", hangRun}, {"fail", failRun}, {"lie", lieRun}, {"full", fullRun}}
}

func main() { program.Main("diskfault", parse, run) }

func parse(args []string) (options, error) {
	var o options
	flags := o.Flags("diskfault")
	names := flags.String("run", "all", "first, power, hang, fail, lie, full, several of them with commas, or all")
	flags.StringVar(&o.logStore, "log-store", "", "wal or boltdb; the server's default where empty")
	flags.IntVar(&o.rounds, "rounds", 10, "power cuts in each of the runs power and first")
	flags.IntVar(&o.sessions, "sessions", 12, "SMTP sessions at the same time")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the random choices")
	flags.BoolVar(&o.short, "short", false, "3 rounds, and fewer kinds of errors")
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	if o.short {
		o.rounds = 3
	}
	if o.rounds < 1 || o.sessions < 3 {
		return o, errors.New("-rounds must be at least 1 and -sessions 3")
	}
	for _, r := range allRuns() {
		if *names == "all" || slices.Contains(strings.Split(*names, ","), r.name) {
			o.runs = append(o.runs, r.name)
		}
	}
	if want := len(strings.Split(*names, ",")); *names != "all" && len(o.runs) != want {
		return o, fmt.Errorf("-run: %q has something else than first, power, hang, fail, lie, full, all", *names)
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) error {
	if err := faultfs.Available(); err != nil {
		fmt.Fprintln(out, "diskfault: skipped:", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 45*time.Minute)
	defer cancel()
	return o.Within(ctx, out, func() error { return harm(ctx, o, out) })
}

func harm(ctx context.Context, o options, out io.Writer) error {
	fmt.Fprintln(out, "seed", o.seed)
	var errs []error
	for i, r := range allRuns() {
		if slices.Contains(o.runs, r.name) {
			errs = append(errs, r.do(ctx, o, rand.New(rand.NewPCG(o.seed, uint64(i))), out))
		}
	}
	return errors.Join(errs...)
}
