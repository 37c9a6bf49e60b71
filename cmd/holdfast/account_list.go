package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) accountListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List accounts",
		Long:    "List accounts by name: who made each, and when its password was set last, and by\nwhom.",
		Example: "  holdfast account list\n  holdfast account list --json",
		Args:    noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				access := pb.NewAccessServiceClient(conn)
				fetch := func(size uint32, token string) (page[*pb.Account], error) {
					r, err := access.ListAccounts(ctx, &pb.ListAccountsRequest{PageSize: size, PageToken: token})
					return page[*pb.Account]{items: r.GetAccounts(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				return a.listAccounts(asJSON, fetch)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) listAccounts(asJSON bool, fetch func(uint32, string) (page[*pb.Account], error)) error {
	t := newTable(a.out)
	if !asJSON {
		t.row("ACCOUNT", "CREATED", "BY", "PASSWORD SET", "BY")
	}
	err := eachPage(a, 0, fetch, func(accounts []*pb.Account) error {
		for _, account := range accounts {
			if asJSON {
				if err := a.writeJSON(toAccountJSON(account)); err != nil {
					return err
				}
				continue
			}
			t.row(account.Name, a.when(account.CreatedAt), account.CreatedBy, a.when(account.ChangedAt), account.ChangedBy)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}
