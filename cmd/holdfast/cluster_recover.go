package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/node"
)

func (a *app) clusterRecoverCommand() *cobra.Command {
	c := &recoverCommand{app: a}
	cmd := &cobra.Command{
		Use:   "recover --data-dir DIR [--data-dir DIR]",
		Short: "Go on with one node of a cluster that has lost its quorum for good",
		Long: `For the case that a majority of the nodes is lost with its disks. Offline: the node
must not run. It shows how far the log of each data folder goes; of several, the
one that goes furthest is chosen. Where the survivors are on different machines,
run it on each with --dry-run, and recover only the one with the highest term
and, within that, the highest index.

It then makes that node the only voter, under a new cluster id. Everything that
it has in its log takes effect, and nothing else: mail that others acknowledged
after its last entry is lost, and what they delivered after it comes twice. So
all that is queued is marked in doubt; held it is not. Nodes of the old cluster
are foreign from then on: wipe the data folder of every other one and start it,
and it joins.

It asks before it changes anything; without a terminal it wants --yes. Where it
is interrupted, run it again: the node doesn't start before.`,
		Example: `  holdfast cluster recover --data-dir /var/lib/holdfast --dry-run
  holdfast cluster recover --data-dir /var/lib/holdfast`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	cmd.Flags().StringArrayVar(&c.dirs, "data-dir", nil, "data folder of a survivor; may be repeated")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "only show how far each goes")
	cmd.Flags().BoolVar(&c.yes, "yes", false, "don't ask")
	return cmd
}

type recoverCommand struct {
	*app
	dirs        []string
	dryRun, yes bool
}

func (c *recoverCommand) run(ctx context.Context) (err error) {
	if len(c.dirs) == 0 {
		return usage("say which data folder with --data-dir DIR")
	}
	if !c.dryRun && !c.yes && !c.terminal() {
		return usage("it asks before it changes anything: run it on a terminal, or with --yes; --dry-run only shows how things stand")
	}
	logger := newLogger(c.err, node.LogConfig{Level: "error", Format: "text"})
	var survivors []*node.Survivor
	defer func() {
		for _, s := range survivors {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, dir := range c.dirs {
		s, err := node.OpenSurvivor(dir, logger)
		if err != nil {
			return err
		}
		survivors = append(survivors, s)
	}
	if err := c.compare(survivors); err != nil {
		return err
	}
	best, err := furthest(survivors)
	if err != nil {
		return err
	}
	return c.recover(ctx, best)
}

// furthest is the one that has the most of the log of the cluster that all are of.
func furthest(survivors []*node.Survivor) (*node.Survivor, error) {
	first := survivors[0]
	best := first
	for _, s := range survivors {
		if s.Cluster != first.Cluster {
			return nil, fmt.Errorf("%s is of cluster %s, %s of %s", s.DataDir, s.Cluster, first.DataDir, first.Cluster)
		}
		if s.Exceeds(best) {
			best = s
		}
	}
	return best, nil
}

// compare shows how far each goes.
func (c *recoverCommand) compare(survivors []*node.Survivor) error {
	t := newTable(c.out)
	t.row("NODE", "DATA FOLDER", "CLUSTER", "LAST TERM", "LAST INDEX", "WRITTEN")
	for _, s := range survivors {
		t.row(s.Node, s.DataDir, s.Cluster, s.LastTerm, s.LastIndex, s.Latest.UTC().Format(time.RFC3339))
	}
	return t.flush()
}

func (c *recoverCommand) recover(ctx context.Context, best *node.Survivor) error {
	voters := best.VoterNames()
	others := slices.DeleteFunc(slices.Clone(voters), func(name string) bool { return name == best.Node })
	fmt.Fprintf(c.out, "\nnode %s would go on alone, with its log up to index %d of term %d. The voters are %s.\n",
		best.Node, best.LastIndex, best.LastTerm, strings.Join(voters, ", "))
	if len(c.dirs) == 1 && len(others) > 0 {
		fmt.Fprintf(c.out, "Is there another survivor? Compare: of two, the one with the higher term, then the higher index, has more.\n")
	}
	fmt.Fprintf(c.out, `May be missing: what the others acknowledged after that entry. Mail that was in
it and not answered yet may now be accepted, and arrive twice where its sender tries again.
What is queued here they may have delivered: it is marked in doubt, and tried again.
`)
	if len(others) > 0 {
		fmt.Fprintf(c.out, "Never start %s again with its old data: a majority of them would go on with the old cluster,\nand deliver the same mail. Wipe each before it is started.\n", strings.Join(others, " or "))
	}
	if c.dryRun {
		return nil
	}
	if !c.yes {
		if err := c.ask(); err != nil {
			return err
		}
	}
	id, err := best.Recover(ctx, c.now(), "holdfast cluster recover --data-dir "+best.DataDir)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "node %s is the only voter of cluster %s now, at index %d; in doubt now: %d recipients\n", best.Node, id, best.LastIndex, best.InDoubt)
	_, err = fmt.Fprintln(c.out, "start it, then the others with empty data folders: they join by themselves")
	return err
}
