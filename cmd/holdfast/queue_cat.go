package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) queueCatCommand() *cobra.Command {
	var whole bool
	cmd := &cobra.Command{
		Use:   "cat ID",
		Short: "Write a waiting message's headers, or all of it, to stdout",
		Long: `Write the headers of a waiting message to stdout, with its trace headers; with
--body the whole message, byte by byte as it was received. The node's log says
who read what.`,
		Example: `  holdfast queue cat 01KAP4T8B3Q6W5CEXJ2MRZ7HDV
  holdfast queue cat --body 01KAP4T8B3Q6W5CEXJ2MRZ7HDV > message.eml`,
		Args: oneArgument("message id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				body, err := pb.NewQueueServiceClient(conn).ReadBody(ctx, &pb.ReadBodyRequest{Id: args[0], HeadersOnly: !whole})
				if err != nil {
					return err
				}
				for {
					piece, err := body.Recv()
					if errors.Is(err, io.EOF) {
						return nil
					}
					if err != nil {
						return err
					}
					if _, err := a.out.Write(piece.Data); err != nil {
						return err
					}
				}
			})
		},
	}
	cmd.Flags().BoolVar(&whole, "body", false, "the whole message")
	return cmd
}
