package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) destinationRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a destination that nothing needs",
		Long:    "Remove a destination. One that a domain uses, or with queued mail, can't be removed.",
		Example: "  holdfast destination remove office",
		Args:    oneArgument("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				req := &pb.RemoveDestinationRequest{Name: args[0]}
				if _, err := pb.NewDestinationServiceClient(conn).RemoveDestination(ctx, req); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "destination %s removed\n", args[0])
				return err
			})
		},
	}
}
