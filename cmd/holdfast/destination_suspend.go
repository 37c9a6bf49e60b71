package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) destinationSuspendCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "suspend NAME",
		Short: "Keep all attempts from a destination",
		Long: `Keep all attempts from a destination, probes too, until it is resumed; those
under way end. Its mail waits in the queue and grows older: what outlives its
retention meanwhile is returned.`,
		Example: `  holdfast destination suspend office --reason "moving to the new server"`,
		Args:    oneArgument("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				req := &pb.SuspendDestinationRequest{Name: args[0], Reason: reason}
				r, err := pb.NewDestinationServiceClient(conn).SuspendDestination(ctx, req)
				if err != nil {
					return err
				}
				d := r.Destination
				_, err = fmt.Fprintf(a.out, "destination %s is suspended since %s by %s; %d recipients wait for it\n",
					d.Name, a.when(d.SuspendedSince), d.SuspendedBy, d.Count.GetPending())
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever asks")
	allowEmpty(cmd.Flags(), "reason")
	return cmd
}

func (a *app) destinationResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "resume NAME",
		Short:   "End the suspension of a destination",
		Long:    "End the suspension of a destination: its mail goes out as it is due.",
		Example: "  holdfast destination resume office",
		Args:    oneArgument("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewDestinationServiceClient(conn).ResumeDestination(ctx, &pb.ResumeDestinationRequest{Name: args[0]})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "destination %s is resumed and %s; %d recipients wait for it\n",
					r.Destination.Name, healthWord(r.Destination.State), r.Destination.Count.GetPending())
				return err
			})
		},
	}
}
