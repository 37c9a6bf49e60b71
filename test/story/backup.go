package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// backUp saves the state of a follower while mail goes on, as every night.
func (w *world) backUp(ctx context.Context) error {
	n, err := w.follower(ctx)
	if err != nil {
		return err
	}
	return w.save(ctx, n, filepath.Join(w.Dir, "nightly.snapshot"))
}

func (w *world) save(ctx context.Context, n *harness.Node, file string) error {
	began := time.Now()
	if err := w.commandAt(ctx, n, "snapshot", "save", file); err != nil {
		return err
	}
	w.Say("the save took %s", ms(time.Since(began)))
	return w.commandAt(ctx, n, "snapshot", "inspect", file)
}

// loseAll ends the traffic, since what comes after a backup is not in it, takes a
// last backup, destroys all nodes, and restores the cluster.
func (w *world) loseAll(ctx context.Context) error {
	if err := w.endTraffic(); err != nil {
		return err
	}
	n, err := w.follower(ctx)
	if err != nil {
		return err
	}
	backup := filepath.Join(w.Dir, "last.snapshot")
	if err := w.save(ctx, n, backup); err != nil {
		return err
	}
	for _, n := range w.cluster.Nodes {
		if err := errors.Join(n.Kill(), n.Wipe()); err != nil {
			return err
		}
	}
	w.Say("kill -9 of all nodes, and their data is gone")
	return w.restore(ctx, backup)
}

// restore makes the cluster anew from the backup: the first node from the file,
// the others with empty folders. All that was queued is held.
func (w *world) restore(ctx context.Context, backup string) error {
	ready, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	first := w.cluster.Nodes[0]
	if err := w.commandAt(ctx, first, "snapshot", "restore", backup, "--config", first.ConfigPath()); err != nil {
		return err
	}
	if err := errors.Join(first.Start(), first.WaitReady(ready)); err != nil {
		return err
	}
	if err := w.rejoin(ready, w.cluster.Nodes[1:]); err != nil {
		return err
	}
	if err := w.awaitVoters(ctx); err != nil {
		return err
	}
	s, err := w.status(ctx)
	if err != nil {
		return err
	}
	w.Say("the cluster is back, with %+v in its queue", s.Queue)
	if s.Queue.Pending > 0 || s.Queue.Held < w.queue || s.Queue.InDoubt != s.Queue.Held {
		w.Violation("after the restore the queue has %+v, want at least %d held, all in doubt, none pending", s.Queue, w.queue)
	}
	return nil
}

// rejoin starts nodes with empty folders.
func (w *world) rejoin(ctx context.Context, nodes []*harness.Node) error {
	for _, n := range nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		enter := n.WaitReady
		if n.Alone {
			enter = func(ctx context.Context) error { return w.join(ctx, n) }
		}
		if err := enter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// release has mail come in again, and lets go what the restore holds. Nobody can
// tell what of it the old cluster has delivered after its last backup.
func (w *world) release(ctx context.Context) error {
	if err := w.open(ctx, "again"); err != nil {
		return err
	}
	return w.command(ctx, "queue", "release", "--all", "--yes")
}

// deliver brings the last destination up, and waits until what waited for it is
// gone, while mail goes on.
func (w *world) deliver(ctx context.Context) error {
	late, err := sink.Start(sink.Config{Address: w.late, IDHeader: load.HeaderID})
	if err != nil {
		return err
	}
	w.sinks = append(w.sinks, late)
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := late.WaitStats(bounded, func(s sink.Stats) bool { return s.Committed > 0 }); err != nil {
		return fmt.Errorf("nothing arrived: %w", err)
	}
	w.Say("first arrival %s after the destination was up", ms(time.Since(began)))
	if err := late.WaitStats(bounded, func(s sink.Stats) bool { return s.Committed >= w.queue }); err != nil {
		return fmt.Errorf("%d messages arrived: %w", late.Stats().Committed, err)
	}
	w.Say("%d messages have arrived after %s", w.queue, ms(time.Since(began)))
	return nil
}
