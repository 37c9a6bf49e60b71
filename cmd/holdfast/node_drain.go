package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) nodeDrainCommand() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "drain [NODE]",
		Short: "Take a node out of service",
		Long: `Take a node, by default the one that answers, out of service until it is resumed,
also over restarts: it answers new SMTP sessions with 421, delivers to no
destination any more, finishes what is under way, and gives leadership away.
--wait returns once it is safe to stop.

A stop by SIGTERM drains too, until the node is started again.`,
		Example: `  holdfast node drain --wait
  holdfast node drain c --wait`,
		Args: oneNodeOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				cluster := pb.NewClusterServiceClient(conn)
				r, err := cluster.DrainNode(ctx, &pb.DrainNodeRequest{Name: optional(args)})
				if err != nil {
					return err
				}
				drain := r.Drain
				if wait {
					if drain, err = a.awaitDrained(ctx, cluster, drain); err != nil {
						return err
					}
				}
				_, err = fmt.Fprintln(a.out, drainText(drain))
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "return once it is safe to stop")
	return cmd
}

const drainPoll = 250 * time.Millisecond

// awaitDrained tells what is left whenever that changes.
func (a *app) awaitDrained(ctx context.Context, cluster pb.ClusterServiceClient, drain *pb.Drain) (*pb.Drain, error) {
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for said := ""; !drain.SafeToStop; {
		if text := drainText(drain); text != said {
			fmt.Fprintln(a.err, text)
			said = text
		}
		if drain.Since == nil {
			return nil, fmt.Errorf("node %s was resumed meanwhile", drain.Node)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		r, err := cluster.GetDrain(ctx, &pb.GetDrainRequest{Name: drain.Node})
		if err != nil {
			return nil, err
		}
		drain = r.Drain
	}
	return drain, nil
}
