package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// lateDomain is of a destination that is up, in the runs in which that of the
// others is down.
const lateDomain = "up.test"

// installRun wipes a follower's data folder under load, when the state is large
// and the log that would replay it is gone.
func installRun(ctx context.Context, o options, out io.Writer) (err error) {
	messages, least := 2500, int64(2)<<30
	o.trailing = 64 << 20
	if o.short {
		messages, least, o.trailing = 150, 100<<20, 8<<20
	}
	w, up, err := buildWithUp(ctx, o, "install", out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.Close(), w.close()) }()
	if err := w.fill(ctx, "fill", w.cluster.SMTP(), w.recipients(), messages, 1<<20); err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	victim := w.survivors(leader)[0]
	stored, err := leader.Metric(ctx, "holdfast_raft_stored_bytes_total")
	if err != nil {
		return err
	}
	size, err := victim.DiskUsage()
	if err != nil {
		return err
	}
	w.Say("node %s has %d MB; %d MB went through the leader's log, of which %d MB stay", victim.Name, size>>20, int64(stored)>>20, o.trailing>>20)
	if size < least {
		return fmt.Errorf("the data of node %s are %d bytes, want %d: the run would prove nothing", victim.Name, size, least)
	}
	stop, err := w.startLoad(ctx, smtpOf(w.survivors(victim)))
	if err != nil {
		return err
	}
	rejoined := w.rejoinWiped(ctx, victim, leader, stored)
	report, err := stop()
	if err = errors.Join(rejoined, err); err != nil {
		return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
	}
	if err := w.expectService(ctx, victim, "back"); err != nil {
		return err
	}
	if err := w.waitAll(ctx, up, report); err != nil {
		return err
	}
	w.verify(ctx)
	return w.verdict("install run")
}

// rejoinWiped empties a node's data folder and waits until the node serves.
func (w *world) rejoinWiped(ctx context.Context, victim, leader *harness.Node, stored float64) error {
	bounded, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	if err := victim.Stop(bounded); err != nil {
		return err
	}
	if err := victim.Wipe(); err != nil {
		return err
	}
	w.Say("node %s is stopped, its data folder wiped", victim.Name)
	began := time.Now()
	if err := victim.Start(); err != nil {
		return err
	}
	bounded, cancel = context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := victim.WaitReady(bounded); err != nil {
		return err
	}
	took := time.Since(began)
	size, err := victim.DiskUsage()
	if err != nil {
		return err
	}
	now, err := leader.Metric(ctx, "holdfast_raft_stored_bytes_total")
	if err != nil {
		return err
	}
	w.Say("node %s serves %s after its start, with %d MB; meanwhile %d MB went through the leader's log",
		victim.Name, took.Round(time.Millisecond), size>>20, int64(now-stored)>>20)
	return w.checkInstalls(ctx, victim, 1, 1)
}

// checkInstalls wants a node to have received the state so many times since its
// start.
func (w *world) checkInstalls(ctx context.Context, n *harness.Node, least, most int) error {
	installs, err := n.Metric(ctx, "holdfast_snapshots_installed_total")
	if err != nil {
		return err
	}
	w.Say("node %s received the state %.0f times", n.Name, installs)
	if int(installs) < least || int(installs) > most {
		w.Violation("node %s received the state %.0f times, want %d to %d", n.Name, installs, least, most)
	}
	return nil
}

// buildWithUp starts a cluster with one destination at which nothing listens
// and one that is up.
func buildWithUp(ctx context.Context, o options, name string, out io.Writer) (*world, *sink.Server, error) {
	w, err := build(ctx, o, name, 1, out)
	if err != nil {
		return nil, nil, err
	}
	up, err := sink.Start(sink.Config{IDHeader: load.HeaderID, Recording: sink.RecordIDs})
	if err != nil {
		return nil, nil, errors.Join(err, w.close())
	}
	if err := w.route(ctx, "up", up.Addr()); err != nil {
		return nil, nil, errors.Join(err, up.Close(), w.close())
	}
	w.domains = w.domains[:len(w.domains)-1] // those of the destination that is down
	return w, up, nil
}

// fill has a number of messages accepted.
func (w *world) fill(ctx context.Context, run string, addresses, recipients []string, messages, size int) error {
	loader, err := load.New(load.Config{
		Addresses: addresses, Sessions: 12, Run: run, Count: messages, Duration: 15 * time.Minute,
		Recipients: recipients, Size: size, PerConnection: 100,
	})
	if err != nil {
		return err
	}
	report, err := loader.Run(ctx)
	if err != nil {
		return err
	}
	accepted := report.Count(load.Accepted)
	w.Say("%d messages of %d KB accepted in %s: %.0f a second, %.1f MB a second; p99 %s", accepted, size>>10,
		report.Window.Round(time.Millisecond), report.Rate(), report.Rate()*float64(size)/1e6, report.Latency(0.99).Round(time.Millisecond))
	if accepted < messages {
		return fmt.Errorf("%d of %d messages were accepted", accepted, messages)
	}
	return nil
}

// startLoad sends mail for the destination that is up until stop is called.
func (w *world) startLoad(ctx context.Context, addresses []string) (stop func() (*load.Report, error), err error) {
	loader, err := load.New(load.Config{
		Addresses: addresses, Sessions: 6, Run: "under", Duration: 15 * time.Minute,
		Recipients: []string{"user@" + lateDomain}, Size: 2 << 10, LongEvery: 10, LongSize: 600 << 10, PerConnection: 100,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var report *load.Report
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, failed = loader.Run(ctx)
	}()
	return func() (*load.Report, error) {
		cancel()
		<-done
		return report, failed
	}, nil
}

// expectService wants a node to accept mail within a minute.
func (w *world) expectService(ctx context.Context, n *harness.Node, run string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return w.fill(ctx, run, []string{n.SMTP}, []string{"user@" + lateDomain}, 20, 2<<10)
}

// waitAll waits until every message that was accepted is at the destination.
func (w *world) waitAll(ctx context.Context, up *sink.Server, report *load.Report) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err := harness.Eventually(ctx, "all mail to arrive", func(context.Context) error {
		missing, arrived := 0, up.IDs()
		for _, a := range report.Answers {
			if a.Outcome == load.Accepted && arrived[a.ID] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d messages answered 250 are missing", missing)
		}
		return nil
	})
	if err != nil {
		w.Violation("%v", err)
		return nil
	}
	repeated := 0
	for _, n := range up.IDs() {
		repeated += n - 1
	}
	w.Say("under load %d messages accepted, %.0f a second, p99 %s; LOST: 0, arrived again: %d", report.Count(load.Accepted), report.Rate(),
		report.Latency(0.99).Round(time.Millisecond), repeated)
	if refused := report.Count(load.Refused); refused > 0 {
		w.Violation("%d messages were refused for good (5xx)", refused)
	}
	return nil
}

func smtpOf(nodes []*harness.Node) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.SMTP)
	}
	return all
}
