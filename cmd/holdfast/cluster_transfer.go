package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) clusterTransferCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "transfer [NODE]",
		Short: "Give leadership to another node",
		Long: `Give leadership to a node, or to any other one that answers and is in service.
Mail is accepted again within a moment; no node is special to clients.`,
		Example: `  holdfast cluster transfer
  holdfast cluster transfer b`,
		Args: oneNodeOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &pb.TransferLeadershipRequest{Name: optional(args)}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewClusterServiceClient(conn).TransferLeadership(ctx, req)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "node %s leads\n", r.Leader)
				return err
			})
		},
	}
}
