package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) queueOperationsStopCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "stop ID",
		Short: "Stop an operation that is under way",
		Long: `Stop an operation by filter or --all where it stands. What it has done stays done,
and is counted; the rest isn't touched. "holdfast queue operations" shows the ids of
operations, and afterwards who stopped this one and why. Where an attempt was under
way as its recipient's turn came, the operation still follows when that ends.

What was deleted can be brought back with "holdfast queue undelete", what was held
with "holdfast queue release".`,
		Example: "  holdfast queue operations stop 01KAP4T8B3Q6W5CEXJ2MRZ7HDV --reason 'the wrong domain'",
		Args:    oneArgument("id of an operation"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewQueueServiceClient(conn).StopBulk(ctx, &pb.StopBulkRequest{BulkId: args[0], Reason: reason})
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(a.out, stopReport(r.Bulk))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever asks later")
	allowEmpty(cmd.Flags(), "reason")
	return cmd
}

// stopReport says how far an operation came that was stopped.
func stopReport(b *pb.Bulk) string {
	op, done := operationOf(b.Kind), operatedBy(b)
	text := fmt.Sprintf("operation %s %s: %s", b.Id, stoppedBy(b), done)
	if b.Expected > 0 {
		text += fmt.Sprintf(" of %d", b.Expected)
	}
	return text + fmt.Sprintf(" %s before that; the rest isn't touched\n", op.done) + done.left(op)
}

func stoppedBy(b *pb.Bulk) string {
	text := "stopped by " + printable(b.StoppedBy)
	if b.StopReason != "" {
		text += " (" + printable(b.StopReason) + ")"
	}
	return text
}
