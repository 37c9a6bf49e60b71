package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// powerRun takes the power from all nodes at once, again and again, under load.
// Every third time the disks have written some of what wasn't fsynced.
func powerRun(ctx context.Context, o options, chance *rand.Rand, out io.Writer) (err error) {
	w, err := build(ctx, o, "power", out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	l, err := w.load(ctx, o, "power", nil)
	if err != nil {
		return err
	}
	for round := 1; round <= o.rounds; round++ {
		if err := w.powerRound(ctx, l, chance, round); err != nil {
			_, stopErr := l.stop()
			return fmt.Errorf("power, round %d: %w\n%s", round, errors.Join(err, stopErr), w.cluster.Tails(8))
		}
	}
	if _, err := l.stop(); err != nil {
		return err
	}
	if err := w.audit(ctx); err != nil {
		return err
	}
	return w.verdict()
}

func (w *world) powerRound(ctx context.Context, l *running, chance *rand.Rand, round int) error {
	if err := w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.cluster.Nodes); err != nil {
		return err
	}
	after := time.Duration(chance.Int64N(int64(4 * time.Second)))
	if err := until(ctx, time.Now().Add(after)); err != nil {
		return err
	}
	accepted := l.Accepted()
	share := 0
	if round%3 == 0 {
		share = 1 + chance.IntN(99)
	}
	if err := w.powerCut(func() bool { return chance.IntN(100) < share }); err != nil {
		return err
	}
	began := time.Now()
	if err := w.startAll(ctx); err != nil {
		return err
	}
	w.Say("round %d: power cut %s after all accepted again, %d%% of the unsynced survived, %d accepted so far; all ready %s after their start",
		round, after.Round(time.Millisecond), share, accepted, time.Since(began).Round(time.Millisecond))
	return nil
}

// powerCut ends all processes and drops what their disks hadn't synced.
func (w *world) powerCut(survives func() bool) error {
	var group sync.WaitGroup
	errs := make([]error, len(w.cluster.Nodes))
	for i, n := range w.cluster.Nodes {
		group.Go(func() { errs[i] = n.Kill() })
	}
	group.Wait()
	for _, n := range w.cluster.Nodes {
		errs = append(errs, w.disks[n.Name].PowerCut(survives))
	}
	return errors.Join(errs...)
}
