package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) accountRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove an account",
		Long: `End an account. It returns when no node lets anybody in by it any more; a session
that it has begun ends with its next message. What came in by it stays, and is
delivered.`,
		Example: "  holdfast account remove printer",
		Args:    oneArgument("account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				if _, err := pb.NewAccessServiceClient(conn).RemoveAccount(ctx, &pb.RemoveAccountRequest{Name: args[0]}); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "account %s removed\n", args[0])
				return err
			})
		},
	}
}
