package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/test/harness"
)

// awayRun stops a follower while mail goes on: for as long as the log lasts,
// and for longer.
func awayRun(ctx context.Context, o options, out io.Writer) (err error) {
	small, large := 20000, 600
	o.trailing = 256 << 20
	if o.short {
		small, large, o.trailing = 3000, 250, 32<<20
	}
	w, up, err := buildWithUp(ctx, o, "away", out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.Close(), w.close()) }()
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	away := w.survivors(leader)[0]
	for _, absence := range []struct {
		name           string
		messages, size int
		installs       int
	}{
		{"within the trailing log", small, 2 << 10, 0},
		{"beyond the trailing log", large, 1 << 20, 1},
	} {
		w.Say("node %s is away, %s", away.Name, absence.name)
		if err := w.absent(ctx, away, absence.messages, absence.size); err != nil {
			return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
		}
		if err := w.checkInstalls(ctx, away, absence.installs, absence.installs); err != nil {
			return err
		}
		if err := w.expectService(ctx, away, fmt.Sprintf("back%d", absence.installs)); err != nil {
			return err
		}
		w.verify(ctx)
	}
	if err := w.waitOwner(ctx, away); err != nil {
		w.Violation("%v", err)
	}
	return w.verdict("away run")
}

// absent stops a node, has mail accepted by the others, and starts it again.
func (w *world) absent(ctx context.Context, away *harness.Node, messages, size int) error {
	stop, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	if err := away.Stop(stop); err != nil {
		return err
	}
	run := fmt.Sprintf("away%d", messages)
	// The destination that is up takes them: the log has acceptance and outcome.
	if err := w.fill(ctx, run, smtpOf(w.survivors(away)), []string{"user@" + lateDomain}, messages, size); err != nil {
		return err
	}
	return w.restart(ctx, away)
}

// waitOwner waits until a node that came back owns what it owned before: with
// destinations enough it gets some of them.
func (w *world) waitOwner(ctx context.Context, n *harness.Node) error {
	for i := range 12 {
		if err := w.route(ctx, fmt.Sprintf("more%02d", i), w.next); err != nil {
			return err
		}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return harness.Eventually(ctx, "node "+n.Name+" to own destinations", func(ctx context.Context) error {
		o, err := ownedBy(ctx, n)
		if err != nil {
			return err
		}
		if len(o.destinations) == 0 {
			return errors.New("it owns none")
		}
		w.Say("node %s owns %d of 14 destinations again, %s after the last check", n.Name, len(o.destinations), time.Since(began).Round(time.Millisecond))
		return nil
	})
}
