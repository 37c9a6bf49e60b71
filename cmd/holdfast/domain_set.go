package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (a *app) domainSetCommand() *cobra.Command {
	var destination, policy string
	missing := later{"verify": {"off"}, "spam-if": nil, "spam-retention": nil, "max-messages": nil, "max-bytes": nil}
	cmd := &cobra.Command{
		Use:   "set NAME --destination DEST",
		Short: "Accept mail for a domain, or change where it goes",
		Long: `Accept mail for a domain, or change what is given of one that is set. It
returns when every node has it.`,
		Example: `  holdfast destination set office --host mail.example.com:25
  holdfast domain set example.com --destination office
  holdfast domain set example.com --policy month`,
		Args: oneArgument("domain"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := missing.refuse(cmd); err != nil {
				return err
			}
			req := &pb.SetDomainRequest{Name: args[0]}
			if cmd.Flags().Changed("destination") {
				req.Destination = &destination
			}
			if cmd.Flags().Changed("policy") {
				req.Policy = &policy
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewDomainServiceClient(conn).SetDomain(ctx, req)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "domain %s %s: its mail goes to %s, policy %s\n",
					r.Domain.Name, createdWord(r.Created), r.Domain.Destination, r.Domain.Policy)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&destination, "destination", "", "where its mail goes (needed for a new domain)")
	cmd.Flags().StringVar(&policy, "policy", "", "retry policy, see `holdfast policy list` (default "+relay.DefaultPolicy+" for a new domain)")
	missing.add(cmd.Flags())
	return cmd
}

func createdWord(created bool) string {
	if created {
		return "created"
	}
	return "changed"
}
