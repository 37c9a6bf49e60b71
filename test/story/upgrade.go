package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast/test/harness"
	"holdfast/test/newer"
)

// upgrade restarts one node after the other with the newer program, the leader
// last. Then the state has its version, and what only that version has is used.
func (w *world) upgrade(ctx context.Context) error {
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	nodes := slices.DeleteFunc(slices.Clone(w.cluster.Nodes), func(n *harness.Node) bool { return n == leader })
	for _, n := range append(nodes, leader) {
		if err := w.replaceProgram(ctx, n); err != nil {
			return err
		}
	}
	err = w.await(ctx, "the state's new version", func(ctx context.Context) error {
		s, err := w.status(ctx)
		if err == nil && s.StateVersion != newer.Version {
			return fmt.Errorf("the state is of version %d, want %d", s.StateVersion, newer.Version)
		}
		return err
	})
	if err != nil {
		return err
	}
	w.Say("the state is of version %d", newer.Version)
	return w.command(ctx, "settings", "set", "--warn-pending", "50000")
}

// replaceProgram stops a node with SIGTERM, which drains it, and starts the other
// program on the same files.
func (w *world) replaceProgram(ctx context.Context, n *harness.Node) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	if err := n.Stop(ctx); err != nil {
		return err
	}
	stopped := time.Now()
	n.Binary = w.newer
	if err := n.Start(); err != nil {
		return err
	}
	if err := n.WaitReady(ctx); err != nil {
		return err
	}
	w.Say("node %s stopped in %s, and serves with the newer program %s later", n.Name, ms(stopped.Sub(began)), ms(time.Since(stopped)))
	return nil
}
