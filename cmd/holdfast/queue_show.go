package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) queueShowCommand() *cobra.Command {
	var flags watchFlags
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one waiting message and why it waits",
		Long: `Show one waiting message: each recipient's state, its next attempt, the latest
failure in the remote server's own words, and the chain of causes that it waits
for. "holdfast log show" has its history, and finished messages.`,
		Example: "  holdfast queue show 01KAP4T8B3Q6W5CEXJ2MRZ7HDV",
		Args:    oneArgument("message id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.show(cmd, flags, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewQueueServiceClient(conn).GetQueued(ctx, &pb.GetQueuedRequest{Id: args[0]})
				if err != nil {
					return err
				}
				a.warnStale(r.Stale)
				if flags.asJSON {
					return a.writeJSON(toMessageJSON(r.Message))
				}
				return a.showMessage(r.Message)
			})
		},
	}
	flags.add(cmd)
	return cmd
}
