package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"holdfast/admin/configfile"
	pb "holdfast/proto/holdfast/v1"
)

func (a *app) domainListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List domains",
		Long:    "List domains by name, with how their recipients are verified, and counts of\nrecipients.",
		Example: "  holdfast domain list",
		Args:    noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				domains := pb.NewDomainServiceClient(conn)
				fetch := func(size uint32, token string) (page[*pb.Domain], error) {
					r, err := domains.ListDomains(ctx, &pb.ListDomainsRequest{PageSize: size, PageToken: token})
					return page[*pb.Domain]{items: r.GetDomains(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				return a.listDomains(asJSON, fetch)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) listDomains(asJSON bool, fetch func(uint32, string) (page[*pb.Domain], error)) error {
	t := newTable(a.out)
	if !asJSON {
		t.header("DOMAIN", "DESTINATION", "POLICY", "VERIFY", "LISTED", "PENDING", "DELIVERED", "FAILED")
	}
	err := eachPage(a, 0, fetch, func(domains []*pb.Domain) error {
		for _, d := range domains {
			if asJSON {
				if err := a.writeJSON(toDomainJSON(d)); err != nil {
					return err
				}
				continue
			}
			t.row(d.Name, d.Destination, d.Policy, configfile.VerifyWord(d.Verify), d.Listed, d.Count.GetPending()+d.Count.GetHeld(), d.Count.GetDelivered(), d.Count.GetFailed())
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}
