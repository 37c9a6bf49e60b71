package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) clusterRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of the cluster",
		Long: `Take a node out of the cluster, dead or alive. Where it leads, leadership goes to
another one first. A removed node that runs stops by itself, and comes in again
only with an empty data folder. What it was delivering is in doubt and tried
again by the others: drain it first to avoid that.

It is refused where too few of the remaining nodes answer for a quorum; --force
does it all the same. It is safe to repeat.`,
		Example: `  holdfast node drain c --wait
  holdfast cluster remove c`,
		Args: oneArgument("node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				req := &pb.RemoveNodeRequest{Name: args[0], Force: force}
				if _, err := pb.NewClusterServiceClient(conn).RemoveNode(ctx, req); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "node %s removed\n", args[0])
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove it even if no quorum is left")
	return cmd
}
