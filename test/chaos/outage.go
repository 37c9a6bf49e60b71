package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// outageRun queues mail for a destination that is down, kills and restarts two
// of three nodes one after the other, and brings the destination up: all mail
// must arrive with no command given.
func outageRun(ctx context.Context, o options, out io.Writer) (err error) {
	w, err := build(ctx, o, "outage", 3, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	log, err := os.Create(filepath.Join(o.Dir, "outage", "answers"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	report, err := w.queueUp(ctx, o, log)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	if err := w.waitDown(ctx); err != nil {
		return err
	}
	var dead *harness.Node
	for range 2 {
		if dead, err = w.killQueueing(ctx, dead); err != nil {
			return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
		}
	}
	if err := w.checkQueued(ctx, report); err != nil {
		return err
	}
	d, err := startDestination(w.next, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := w.waitArrival(ctx, report, d); err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	// Nobody was connected when nodes died, so nothing may arrive twice.
	if _, err := w.audit(ctx, audit.Books{}, report, d); err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	return w.verdict("outage run")
}

// queueUp sends the messages while nothing listens at the destination.
func (w *world) queueUp(ctx context.Context, o options, log io.Writer) (*load.Report, error) {
	loader, err := load.New(load.Config{
		Addresses: w.cluster.SMTP(), Sessions: o.sessions, Run: "outage", Count: o.held,
		Recipients: w.recipients(), Size: 2 << 10, LongEvery: 50, LongSize: 600 << 10,
		PerConnection: 20, Log: log,
	})
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	report, err := loader.Run(bounded)
	if err != nil {
		return nil, err
	}
	accepted := report.Count(load.Accepted)
	if accepted < o.held {
		return nil, fmt.Errorf("only %d of %d messages were accepted within two minutes", accepted, o.held)
	}
	w.Say("outage run: %d messages accepted in %s, nothing listens at %s", accepted, report.Window.Round(time.Millisecond), w.next)
	return report, nil
}

// waitDown waits until the cluster itself says that the destinations are down.
func (w *world) waitDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := harness.Eventually(ctx, "the destinations to be down", func(ctx context.Context) error {
		var status harness.Status
		if err := w.cluster.Nodes[0].JSON(ctx, &status, "status"); err != nil {
			return err
		}
		if down := len(status.DestinationsDown); down < len(w.domains) {
			return fmt.Errorf("%d of %d are", down, len(w.domains))
		}
		return nil
	})
	if err == nil {
		w.Say("the cluster says that all %d destinations are down", len(w.domains))
	}
	return err
}

// killQueueing kills the leader first, then another node: a follower where both
// others are there to choose from.
func (w *world) killQueueing(ctx context.Context, dead *harness.Node) (*harness.Node, error) {
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	leader, err := w.cluster.Leader(bounded)
	if err != nil {
		return nil, err
	}
	victim := leader
	if dead != nil {
		for _, n := range w.survivors(dead) {
			if n != leader {
				victim = n
			}
		}
	}
	if err := victim.Kill(); err != nil {
		return nil, err
	}
	w.Say("kill -9 of node %s (leader %s)", victim.Name, leader.Name)
	return victim, w.restart(ctx, victim)
}

// checkQueued wants every accepted message pending on every node. Unknown ones
// may be there too.
func (w *world) checkQueued(ctx context.Context, report *load.Report) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	least := report.Count(load.Accepted)
	most := least + report.Count(load.Unknown)
	for _, n := range w.cluster.Nodes {
		err := harness.Eventually(ctx, "the queue on node "+n.Name, func(ctx context.Context) error {
			var count harness.Count
			if err := n.JSON(ctx, &count, "queue", "count"); err != nil {
				return err
			}
			if queued := count.Pending + count.Held; queued < least || queued > most {
				return fmt.Errorf("%d queued, want %d to %d", queued, least, most)
			}
			if count.Held+count.Frozen+count.Failed+count.Delivered > 0 {
				return fmt.Errorf("counts %+v, want pending ones only", count)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	w.Say("all %d are pending on all nodes", least)
	return nil
}

// waitArrival waits until every accepted message is at the destination.
func (w *world) waitArrival(ctx context.Context, report *load.Report, d *destination) error {
	up := time.Now()
	w.Say("the destination is up")
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := d.WaitStats(ctx, func(s sink.Stats) bool { return s.Committed > 0 }); err != nil {
		return fmt.Errorf("nothing arrived: %w", err)
	}
	w.Say("first arrival %s after that", time.Since(up).Round(time.Millisecond))
	want := report.Count(load.Accepted)
	if err := d.WaitStats(ctx, func(s sink.Stats) bool { return s.Committed >= want }); err != nil {
		return fmt.Errorf("%d of %d arrived: %w", d.Stats().Committed, want, err)
	}
	w.Say("all %d arrived %s after it was up", want, time.Since(up).Round(time.Millisecond))
	return nil
}
