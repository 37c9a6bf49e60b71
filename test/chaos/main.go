// Command chaos kills nodes of a real cluster under load and checks that every
// promise about mail was kept:
//
//  1. Three server processes run on loopback, with proxies between them.
//  2. Clients send mail without a pause and write down every answer.
//  3. Nodes get kill -9 in the middle of their work, and are started again.
//  4. When the queue is empty, three books are compared: the clients' answers,
//     the mail at the destination, and the cluster's own log.
//  5. It prints figures, and ends with status 1 where a promise was broken.
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
	"syscall"
	"time"

	"holdfast/test/harness"
)

type options struct {
	binary   string
	dir      string
	run      string
	logStore string
	duration time.Duration
	sessions int
	held     int
	keep     bool
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.StringVar(&o.binary, "binary", "", "holdfast executable; built where empty")
	flags.StringVar(&o.dir, "dir", "build", "folder for data and logs")
	flags.StringVar(&o.run, "run", "all", "kill, outage or all")
	flags.StringVar(&o.logStore, "log-store", "", "wal or boltdb; the server's default where empty")
	flags.DurationVar(&o.duration, "duration", time.Minute, "length of the load in the kill run")
	flags.IntVar(&o.sessions, "sessions", 20, "SMTP sessions at the same time")
	flags.IntVar(&o.held, "held", 2000, "messages to queue in the outage run")
	short := flags.Bool("short", false, "a shorter load and queue")
	flags.BoolVar(&o.keep, "keep", false, "keep data and logs; they are kept after a failure anyway")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if *short {
		o.duration, o.held = 20*time.Second, 300
	}
	if o.duration < 10*time.Second || o.sessions < 3 || o.held < 1 {
		return o, errors.New("-duration must be at least 10s, -sessions 3 and -held 1")
	}
	if o.run != "all" && o.run != "kill" && o.run != "outage" {
		return o, fmt.Errorf("-run: %q is none of kill, outage, all", o.run)
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	// Twice the load for the drain, and what restarts and probes take at most.
	ctx, cancel := context.WithTimeout(ctx, 2*o.duration+15*time.Minute)
	defer cancel()
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	base, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp(base, "chaos-"); err != nil {
		return err
	}
	defer func() {
		if err != nil || o.keep {
			fmt.Fprintln(out, "data, logs and answers are in", o.dir)
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
	if o.run != "outage" {
		errs = append(errs, killRun(ctx, o, out))
	}
	if o.run != "kill" {
		errs = append(errs, outageRun(ctx, o, out))
	}
	return errors.Join(errs...)
}
