package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) destinationRetryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retry NAME",
		Short: "Probe a destination that is down now",
		Long: `Probe a destination that is down now instead of at its next probe. Should it
fail, further probes come as soon after each other as at the beginning of the
outage. Once it is back its queue drains by itself. "holdfast queue retry
--destination NAME" tries the messages of one that is up.`,
		Example: "  holdfast destination retry office",
		Args:    oneArgument("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				req := &pb.RetryDestinationRequest{Name: args[0]}
				r, err := pb.NewDestinationServiceClient(conn).RetryDestination(ctx, req)
				if err != nil {
					return err
				}
				switch d := r.Destination; {
				case d.State == pb.DestinationHealth_STATE_UP:
					_, err = fmt.Fprintf(a.out, "destination %s is up, there is nothing to probe\n", d.Name)
				case d.SuspendedSince != nil:
					_, err = fmt.Fprintf(a.out, "destination %s is %s and suspended: it is probed once it is resumed\n", d.Name, healthWord(d.State))
				default:
					_, err = fmt.Fprintf(a.out, "destination %s is %s, its next probe is due %s\n", d.Name, healthWord(d.State), a.when(d.NextProbe))
				}
				return err
			})
		},
	}
}
