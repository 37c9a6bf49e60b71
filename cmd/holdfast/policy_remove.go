package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) policyRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a retry policy",
		Long:    "Remove a retry policy of your own. One that a domain uses can't be removed.",
		Example: "  holdfast policy remove patient",
		Args:    oneArgument("policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				if _, err := pb.NewPolicyServiceClient(conn).RemovePolicy(ctx, &pb.RemovePolicyRequest{Name: args[0]}); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "policy %s removed\n", args[0])
				return err
			})
		},
	}
}
