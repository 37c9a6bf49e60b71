package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// round is what is run in each: some beside each other, some when these are done.
type round struct {
	together, after []job
}

// job is one program to run.
type job struct {
	name   string
	folder string // to run it in
	binary string
	args   []string
	took   time.Duration // when it was run last
}

// run ends at the first failure, and ends then what is under way.
func (r *round) run(ctx context.Context, parallel int, out io.Writer) error {
	// The longest first, so that at the end none runs alone.
	slices.SortStableFunc(r.together, func(a, b job) int { return cmp.Compare(b.took, a.took) })
	group, together := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i := range r.together {
		group.Go(func() error { return r.together[i].run(together, out) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range r.after {
		if err := r.after[i].run(ctx, out); err != nil {
			return err
		}
	}
	return nil
}

// patience is what a program has to end in good order.
const patience = 30 * time.Second

func (j *job) run(ctx context.Context, out io.Writer) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	log, err := os.Create(j.binary + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.CommandContext(ctx, j.binary, j.args...)
	command.Dir, command.Stdout, command.Stderr = j.folder, log, log
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = patience
	began := time.Now()
	err = command.Run()
	j.took = time.Since(began)
	took := seconds(j.took)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s: %w after %s\n%s", j.name, err, took, ends(log.Name()))
	}
	_, err = fmt.Fprintf(out, "ok  %8s  %s\n", took, j.name)
	return err
}

const shown = 200 // lines

// ends are the last lines of a file, and where the others are.
func ends(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return fmt.Sprintf("%s\nall of its output is in %s", strings.Join(lines[max(0, len(lines)-shown):], "\n"), filepath.Clean(path))
}
