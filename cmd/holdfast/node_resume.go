package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) nodeResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "resume [NODE]",
		Short:   "Put a drained node back into service",
		Long:    "Put a drained node, by default the one that answers, back into service.",
		Example: "  holdfast node resume c",
		Args:    oneNodeOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewClusterServiceClient(conn).ResumeNode(ctx, &pb.ResumeNodeRequest{Name: optional(args)})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.out, drainText(r.Drain))
				return err
			})
		},
	}
}
