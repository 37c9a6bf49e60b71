// Command story lives through what a team does with a cluster in its years, in
// minutes and under load:
//
//  1. Three server processes with certificates run on loopback. Clients send
//     mail without a pause, most of it for destinations that are up, some for one
//     that is down and holds a long queue.
//  2. Chapter by chapter, with the program's own commands as docs/operate.md has
//     them: two nodes join, one is killed and replaced, one is removed, certificates
//     and CA are rotated, the program is upgraded, the state is backed up, all
//     nodes are destroyed, the cluster is restored, the destination comes up.
//  3. After each chapter, while mail goes on, three books are compared: the
//     clients' answers, the mail at the destinations, and the cluster's own log;
//     and the states of all nodes.
//  4. It prints the figures of each chapter, and ends with status 1 where a
//     promise was broken.
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
	binary string
	dir    string
	queue  int           // messages that wait throughout
	offer  int           // messages a second that clients send
	floor  int           // messages a second that must be accepted in each chapter
	least  time.Duration // of a chapter
	short  bool
	keep   bool
}

const limit = 15 * time.Minute // after which it is stuck

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "story:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "story:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("story", flag.ContinueOnError)
	flags.StringVar(&o.binary, "binary", "", "holdfast executable; built where empty")
	flags.StringVar(&o.dir, "dir", "build", "folder for data and logs")
	flags.IntVar(&o.queue, "queue", 10_000, "messages that wait for the destination that is down")
	flags.IntVar(&o.offer, "rate", 600, "messages a second that clients send")
	flags.IntVar(&o.floor, "floor", 500, "messages a second that must be accepted in each chapter")
	flags.DurationVar(&o.least, "least", 10*time.Second, "shortest time of a chapter")
	flags.BoolVar(&o.short, "short", false, "a shorter queue, less mail, shorter chapters")
	flags.BoolVar(&o.keep, "keep", false, "keep data and logs; they are kept after a failure anyway")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if o.short {
		o.queue, o.offer, o.floor, o.least = 500, 200, 100, time.Second
	}
	if o.queue < 1 || o.offer < 2*waitingShare || o.floor < 0 || o.least < 0 {
		return o, fmt.Errorf("-queue must be at least 1, -rate %d, -floor and -least 0", 2*waitingShare)
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	base, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp(base, "story-"); err != nil {
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
	return tell(ctx, o, out)
}
