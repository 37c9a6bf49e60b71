package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/test/harness"
	"holdfast/test/load"
)

// fillQueue starts the traffic that goes on through the story, and beside it has
// a long queue accepted for the destination that is down.
func (w *world) fillQueue(ctx context.Context) error {
	if err := w.open(ctx, ""); err != nil {
		return err
	}
	loader, err := load.New(load.Config{
		Addresses: w.cluster.SMTP(), Roam: true, Sessions: 50, Run: "fill", Count: w.queue, Duration: 5 * time.Minute,
		Recipients: users([]string{lateDomain}), Size: 1 << 10, PerConnection: 50,
	})
	if err != nil {
		return err
	}
	report, err := loader.Run(ctx)
	if err != nil {
		return err
	}
	w.earlier = append(w.earlier, report.Answers...)
	w.Say("%d messages wait for a destination that is down, accepted in %s", report.Count(load.Accepted), ms(report.Window))
	return nil
}

// addTwo has d join by its node file and e by the command.
func (w *world) addTwo(ctx context.Context) error {
	ready, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := w.cluster.Launch(ready, "d", false)
	if err != nil {
		return err
	}
	e, err := w.cluster.Launch(ready, "e", true)
	if err != nil {
		return err
	}
	if err := errors.Join(w.join(ready, e), d.WaitReady(ready)); err != nil {
		return err
	}
	if err := w.awaitVoters(ctx); err != nil {
		return err
	}
	w.follow()
	return nil
}

// join is what a node needs whose file names no other.
func (w *world) join(ctx context.Context, n *harness.Node) error {
	err := w.await(ctx, "the socket of node "+n.Name, func(ctx context.Context) error {
		return w.commandAt(ctx, n, "cluster", "join", w.cluster.Nodes[0].Admin)
	})
	if err != nil {
		return err
	}
	return n.WaitReady(ctx)
}

// killLeader kills the node with the most to lose. The clients go on trying it.
func (w *world) killLeader(ctx context.Context) error {
	if err := until(ctx, time.Now().Add(w.least/2)); err != nil {
		return err
	}
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	if err := leader.Kill(); err != nil {
		return err
	}
	killed := time.Now()
	w.Say("kill -9 of node %s, which leads", leader.Name)
	w.cluster.Forget(leader)
	w.dead = leader
	return w.await(ctx, "250 after the death", func(context.Context) error {
		// Replies that were on their way prove nothing: those after a moment do.
		if last := w.lastAccepted(); last.Before(killed.Add(500 * time.Millisecond)) {
			return fmt.Errorf("none since %s", last.Format(time.TimeOnly))
		}
		return nil
	})
}

// lastAccepted is when any node answered 250 last.
func (w *world) lastAccepted() (last time.Time) {
	for _, loader := range w.traffic.loaders {
		for _, n := range w.cluster.Nodes {
			if at := loader.LastAccepted(n.SMTP); at.After(last) {
				last = at
			}
		}
	}
	return last
}

// replaceDead has a new node join, and then takes the dead one out.
func (w *world) replaceDead(ctx context.Context) error {
	ready, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f, err := w.cluster.Add(ready, "f")
	if err != nil {
		return err
	}
	if err := w.command(ctx, "cluster", "promote", f.Name); err != nil {
		return err
	}
	if err := w.command(ctx, "cluster", "remove", w.dead.Name); err != nil {
		return err
	}
	if err := w.awaitVoters(ctx); err != nil {
		return err
	}
	w.follow()
	return nil
}

// removeOne takes a node out of service, and then out of the cluster: the last but
// one, which no node file names.
func (w *world) removeOne(ctx context.Context) error {
	n := w.cluster.Nodes[len(w.cluster.Nodes)-2]
	if err := w.command(ctx, "node", "drain", n.Name, "--wait"); err != nil {
		return err
	}
	if err := w.command(ctx, "cluster", "remove", n.Name); err != nil {
		return err
	}
	w.cluster.Forget(n)
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := n.WaitExit(bounded)
	if err != nil {
		return err
	}
	w.Say("node %s has ended by itself, exit status %d", n.Name, status)
	w.follow()
	return w.awaitVoters(ctx)
}
