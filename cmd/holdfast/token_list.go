package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) tokenListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List tokens",
		Long:    "List tokens by name, expired ones too. Secrets are not shown: nobody has them but\ntheir holders.",
		Example: "  holdfast token list",
		Args:    noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				access := pb.NewAccessServiceClient(conn)
				fetch := func(size uint32, token string) (page[*pb.Token], error) {
					r, err := access.ListTokens(ctx, &pb.ListTokensRequest{PageSize: size, PageToken: token})
					return page[*pb.Token]{items: r.GetTokens(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				return a.listTokens(asJSON, fetch)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) listTokens(asJSON bool, fetch func(uint32, string) (page[*pb.Token], error)) error {
	t := newTable(a.out)
	if !asJSON {
		t.row("TOKEN", "ID", "ROLE", "DOMAINS", "EXPIRES", "CREATED", "BY")
	}
	err := eachPage(a, 0, fetch, func(tokens []*pb.Token) error {
		for _, token := range tokens {
			if asJSON {
				if err := a.writeJSON(toTokenJSON(token)); err != nil {
					return err
				}
				continue
			}
			t.row(token.Name, token.Id, roleName(token.Role), domainsWord(token.Domains),
				expiryWord(token, func() string { return a.when(token.ExpiresAt) }), a.when(token.CreatedAt), token.CreatedBy)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}
