package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) destinationShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one destination with its health",
		Long:    "Show one destination: its hosts, and while it is down since when, why, and when it\nis probed next.",
		Example: "  holdfast destination show office",
		Args:    oneArgument("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewDestinationServiceClient(conn).GetDestination(ctx, &pb.GetDestinationRequest{Name: args[0]})
				if err != nil {
					return err
				}
				a.warnStale(r.Stale)
				if asJSON {
					return a.writeJSON(toDestinationJSON(r.Destination))
				}
				return a.showDestination(r.Destination)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}
