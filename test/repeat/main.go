// Command repeat runs the tests many times in a row, to find those that fail now
// and then:
//
//  1. The tests of each package are built once, with the race detector; those that
//     do only a share with it are built without it, too (test/race).
//  2. A round runs each of them in its package's folder, several at a time, as go
//     test does; and, where it is asked for, the chaos runs in their short form.
//  3. The first failure ends it, and its output is shown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"holdfast/test/program"
)

type options struct {
	rounds   int
	parallel int
	dir      string
	packages []string
	plain    []string // of the packages: without the race detector, too
	chaos    string   // chaos runs, with commas between
	binary   string
}

func main() { program.Main("repeat", parse, run) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("repeat", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "n", 20, "rounds")
	flags.IntVar(&o.parallel, "p", runtime.GOMAXPROCS(0), "packages at a time")
	flags.StringVar(&o.dir, "dir", "build/repeat", "folder for what is built, and each one's latest output")
	plain := flags.String("plain", "", "packages to test without the race detector, too, with spaces between")
	flags.StringVar(&o.chaos, "chaos", "", "chaos runs to end each round with, in their short form, with commas between")
	flags.StringVar(&o.binary, "binary", "", "holdfast executable of the chaos runs; built where empty")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.plain = strings.Fields(*plain)
	if o.packages = flags.Args(); len(o.packages) == 0 {
		o.packages = []string{"./..."}
	}
	if o.rounds < 1 || o.parallel < 1 {
		return o, errors.New("-n and -p must be at least 1")
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) error {
	began := time.Now()
	all, err := build(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "built in %s\n", seconds(time.Since(began)))
	began = time.Now()
	for n := range o.rounds {
		round := time.Now()
		if err := all.run(ctx, o.parallel, out); err != nil {
			return fmt.Errorf("round %d of %d, after %s: %w", n+1, o.rounds, seconds(time.Since(round)), err)
		}
		fmt.Fprintf(out, "round %d of %d: %s\n", n+1, o.rounds, seconds(time.Since(round)))
	}
	fmt.Fprintf(out, "%d rounds without a failure, %s\n", o.rounds, seconds(time.Since(began)))
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
