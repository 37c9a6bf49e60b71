// Command chaos does to a real cluster under load what goes wrong with real
// ones, and checks that every promise about mail was kept:
//
//  1. Three server processes run on loopback, with proxies between them.
//  2. Clients send mail without a pause and write down every answer.
//  3. Nodes are killed, cut off, paused, wiped or away in the middle of their
//     work, and come back; or the cluster gets more than it can hold in memory.
//  4. When the queue is empty, three books are compared: the clients' answers,
//     the mail at the destination, and the cluster's own log.
//  5. It prints figures, and ends with status 1 where a promise was broken.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"holdfast/test/harness"
	"holdfast/test/program"
)

type options struct {
	harness.Workspace
	run      string
	logStore string
	duration time.Duration
	sessions int
	held     int
	kills    int
	short    bool
	// What a run wants otherwise than the others; 0 is the default.
	trailing int64 // bytes of the trailing log
	slots    int   // of each destination
	tls      bool
}

// namedRun is one of the runs that -run chooses.
type namedRun struct {
	name  string
	run   func(context.Context, options, io.Writer) error
	limit time.Duration // after which it is stuck
}

var runs = []namedRun{
	{"kill", killRun, 20 * time.Minute},
	{"failover", failoverRun, 60 * time.Minute},
	{"outage", outageRun, 15 * time.Minute},
	{"partition", partitionRun, 20 * time.Minute},
	{"away", awayRun, 15 * time.Minute},
	{"install", installRun, 20 * time.Minute},
	{"memory", memoryRun, 40 * time.Minute},
}

func names() []string {
	var all []string
	for _, r := range runs {
		all = append(all, r.name)
	}
	return all
}

func main() { program.Main("chaos", parse, run) }

func parse(args []string) (options, error) {
	var o options
	flags := o.Flags("chaos")
	flags.StringVar(&o.run, "run", "all", "which, of "+strings.Join(names(), ", ")+", with commas between; or all")
	flags.StringVar(&o.logStore, "log-store", "", "wal or boltdb; the server's default where empty")
	flags.DurationVar(&o.duration, "duration", time.Minute, "length of the load in the kill run")
	flags.IntVar(&o.sessions, "sessions", 20, "SMTP sessions at the same time")
	flags.IntVar(&o.held, "held", 2000, "messages to queue in the outage run")
	flags.IntVar(&o.kills, "kills", 50, "leaders to kill in the failover run")
	flags.BoolVar(&o.short, "short", false, "shorter, smaller and fewer of each")
	flags.BoolVar(&o.tls, "tls", false, "nodes with certificates")
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	if o.short {
		o.duration, o.held, o.kills = 20*time.Second, 300, 5
	}
	if o.duration < 10*time.Second || o.sessions < 3 || o.held < 1 || o.kills < 1 {
		return o, errors.New("-duration must be at least 10s, -sessions 3, -held 1 and -kills 1")
	}
	_, err := o.chosen()
	return o, err
}

// chosen are the runs that -run names, in their own order.
func (o options) chosen() ([]namedRun, error) {
	if o.run == "all" {
		return runs, nil
	}
	wanted := strings.Split(o.run, ",")
	for _, name := range wanted {
		if !slices.Contains(names(), name) {
			return nil, fmt.Errorf("-run: %q is none of %s, all", name, strings.Join(names(), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(runs), func(r namedRun) bool { return !slices.Contains(wanted, r.name) }), nil
}

func run(ctx context.Context, o options, out io.Writer) error {
	return o.Within(ctx, out, func() error { return runChosen(ctx, o, out) })
}

func runChosen(ctx context.Context, o options, out io.Writer) error {
	chosen, err := o.chosen()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range chosen {
		bounded, cancel := context.WithTimeout(ctx, r.limit+2*o.duration)
		errs = append(errs, r.run(bounded, o, out))
		cancel()
	}
	return errors.Join(errs...)
}
