package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"holdfast/node"
)

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var config string
	var deliver bool
	cmd := &cobra.Command{
		Use:   "restore FILE --config NODE-FILE",
		Short: "Make the first node of a new cluster from a snapshot",
		Long: `Fill the empty data folder of the node that the node file describes with a
snapshot's state. Nothing runs on the folder. The node that is then started is
the first of a new cluster with an id of its own; the others, started with empty
folders and the same node files as ever, join it by themselves.

Domains, destinations, policies, settings, the queue with its bodies, and the log
of all messages come from the snapshot; nodes, attempts under way and uploads
don't. Mail may have been delivered since the snapshot was made: whatever wasn't
over in it is marked in doubt, and pending mail is held until it is released.
With --deliver it is delivered as soon as the node leads: some of it for the
second time. What was accepted after the snapshot is not in it.

Where it is interrupted, run it again: the node doesn't start before. Where it
fails, the folder is empty again.`,
		Example: `  holdfast snapshot restore 2026-11-27.snapshot --config /etc/holdfast/holdfast.toml
  systemctl start holdfast
  holdfast queue list --state held
  holdfast queue release --all`,
		Args: oneFile(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if config == "" {
				return usage("say which node is to be the first of the cluster with --config NODE-FILE")
			}
			cfg, err := node.Load(config)
			if err != nil {
				return err
			}
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			restoration := node.Restoration{
				Snapshot: file, Deliver: deliver, Now: a.now,
				Command: fmt.Sprintf("holdfast snapshot restore %s --config %s", args[0], config),
				Logger:  newLogger(a.err, node.LogConfig{Level: "warn", Format: "text"}),
				Progress: func(recipients uint64) {
					a.progress("%s marked", plural(recipients, "recipient"))
				},
			}
			a.progress("reads %s", args[0])
			restored, err := node.Restore(cmd.Context(), cfg, restoration)
			a.endProgress()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return a.tellRestored(cfg, restored, deliver)
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "node file of the node")
	cmd.Flags().BoolVar(&deliver, "deliver", false, "hold nothing: deliver what is pending, some of it twice")
	return cmd
}

func (a *app) tellRestored(cfg node.Config, r *node.Restored, deliver bool) error {
	a.warnStale(r.Header.Stale)
	fmt.Fprintf(a.out, "node %s is the first of the new cluster %s, with the state of cluster %s at index %d, saved %s\n",
		cfg.NodeID, r.ClusterID, r.Header.ClusterId, r.Header.Index, savedAt(r.Header).Format("2006-01-02T15:04:05Z"))
	c := r.Header.Counts
	fmt.Fprintf(a.out, "in the snapshot: %d pending, %d held, %d frozen, %d delivered, %d failed\n",
		c.GetPending(), c.GetHeld(), c.GetFrozen(), c.GetDelivered(), failedIn(c))
	fmt.Fprintf(a.out, "in doubt now: %s; %s under way in the snapshot\n",
		plural(r.InDoubt, "recipient"), plural(uint64(r.Revoked), "attempt"))
	next := "pending mail is held: `holdfast queue list --state held`, then `holdfast queue release`"
	if deliver {
		next = "pending mail will be delivered once the node runs"
	}
	_, err := fmt.Fprintf(a.out, "%s\nstart this node first, then the others with empty data folders\n", next)
	return err
}
