package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) clusterPromoteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "promote NODE",
		Short: "Let a node vote that has caught up",
		Long: `Let a node vote. A node that joins is promoted by itself once it has kept up with
the log for two seconds; this spares it that time. One that hasn't caught up is
refused.`,
		Example: "  holdfast cluster promote d",
		Args:    oneArgument("node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				if _, err := pb.NewClusterServiceClient(conn).PromoteNode(ctx, &pb.PromoteNodeRequest{Name: args[0]}); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "node %s votes\n", args[0])
				return err
			})
		},
	}
}
