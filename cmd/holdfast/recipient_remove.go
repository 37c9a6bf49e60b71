package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) recipientRemoveCommand() *cobra.Command {
	var all string
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove (ADDRESS... | --all DOMAIN)",
		Short: "Take recipients off a list",
		Long: `Take recipients off the lists of their domains, or with --all everybody off a
domain's list: that shows how many there are, and asks; --yes answers in advance. It
returns when every node has it. Those that aren't listed are no error.

Mail that was accepted stays, and is delivered. From then on the domain's --verify
says whether such a recipient is taken.`,
		Example: `  holdfast recipient remove anna@example.com
  holdfast recipient remove --all example.com --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case all != "" && len(args) > 0:
				return usage("give addresses, or --all with a domain: not both")
			case all == "" && len(args) == 0:
				return usage("say which recipients: addresses, or --all DOMAIN")
			case all == "":
				return a.changeLists(cmd, args, removing, "removed", "not listed")
			case !yes && !a.terminal():
				return usage("nobody is there to confirm: add --yes")
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				return a.removeList(ctx, conn, domainWord(all), yes)
			})
		},
	}
	cmd.Flags().StringVar(&all, "all", "", "domain whose whole list goes")
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	return cmd
}

func (a *app) removeList(ctx context.Context, conn *grpc.ClientConn, domain string, yes bool) error {
	addresses, stale, err := listedBy(ctx, conn, domain)
	if err != nil {
		return err
	}
	if len(addresses) == 0 {
		a.warnStale(stale)
		_, err := fmt.Fprintf(a.out, "domain %s lists no recipients\n", domain)
		return err
	}
	if !yes {
		r, err := pb.NewDomainServiceClient(conn).GetDomain(ctx, &pb.GetDomainRequest{Name: domain})
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "%s would be taken off the list of %s: %s\n",
			plural(uint64(len(addresses)), "recipient"), domain, some(addresses))
		if r.Domain.Verify == pb.Verify_VERIFY_LISTED {
			fmt.Fprintf(a.out, "%s takes listed recipients only (verify listed): all its mail would be refused\n", domain)
		}
		if err := a.ask(); err != nil {
			return err
		}
	}
	sum, err := a.inPieces(ctx, removing(conn), "removed", domain, addresses)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "domain %s: %s removed; it lists %d\n", domain, plural(sum.changed, "recipient"), sum.listed)
	return err
}
