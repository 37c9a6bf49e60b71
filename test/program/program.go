// Package program is what each program of the tests is beside its own work:
//
//  1. It reads its arguments, and refuses what it doesn't know with status 2.
//  2. It works until it is done or interrupted, by Ctrl-C or SIGTERM.
//  3. It ends with status 1 and a line that says why, or with 0.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Main is the whole of a main function. It doesn't return.
func Main[Options any](
	name string,
	parse func(args []string) (Options, error),
	run func(ctx context.Context, o Options, out io.Writer) error,
) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := do(ctx, os.Stdout, os.Stderr, name, os.Args[1:], parse, run)
	stop()
	os.Exit(status)
}

func do[Options any](
	ctx context.Context, out, complaints io.Writer, name string, args []string,
	parse func([]string) (Options, error),
	run func(context.Context, Options, io.Writer) error,
) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(complaints, "%s: %v\n", name, err)
		return 2
	}
	if err := run(ctx, o, out); err != nil {
		fmt.Fprintf(complaints, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// Parse parses flags with nothing behind them.
func Parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	return nil
}
