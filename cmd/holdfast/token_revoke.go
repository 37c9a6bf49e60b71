package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "Revoke a token",
		Long: `End a token, by its name or its id. It returns when no node takes the token any
more; what it follows (log tail) ends within seconds.`,
		Example: "  holdfast token revoke customer-7",
		Args:    oneArgument("token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				if _, err := pb.NewAccessServiceClient(conn).RevokeToken(ctx, &pb.RevokeTokenRequest{Token: args[0]}); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "token %s revoked\n", args[0])
				return err
			})
		},
	}
}
