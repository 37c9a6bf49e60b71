package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) domainRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Accept no more mail for a domain",
		Long:    "Accept no more mail for a domain, and forget its list of recipients. One with queued\nmail, or with more than 1,000 listed recipients, can't be removed.",
		Example: "  holdfast domain remove example.com",
		Args:    oneArgument("domain"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				if _, err := pb.NewDomainServiceClient(conn).RemoveDomain(ctx, &pb.RemoveDomainRequest{Name: args[0]}); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.out, "domain %s removed\n", args[0])
				return err
			})
		},
	}
}
