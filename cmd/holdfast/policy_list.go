package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (a *app) policyListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List retry policies",
		Long:    "List retry policies by name: those that ship with the program and your own.",
		Example: "  holdfast policy list",
		Args:    noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				policies := pb.NewPolicyServiceClient(conn)
				fetch := func(size uint32, token string) (page[*pb.Policy], error) {
					r, err := policies.ListPolicies(ctx, &pb.ListPoliciesRequest{PageSize: size, PageToken: token})
					return page[*pb.Policy]{items: r.GetPolicies(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				return a.listPolicies(asJSON, fetch)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) listPolicies(asJSON bool, fetch func(uint32, string) (page[*pb.Policy], error)) error {
	t := newTable(a.out)
	if !asJSON {
		t.header("POLICY", "RETENTION", "ATTEMPTS", "DELAY WARNING", "DOMAINS")
	}
	err := eachPage(a, 0, fetch, func(policies []*pb.Policy) error {
		for _, p := range policies {
			if asJSON {
				if err := a.writeJSON(toPolicyJSON(p)); err != nil {
					return err
				}
				continue
			}
			t.row(p.Name, relay.FormatDuration(p.Retention.AsDuration()), p.Planned, warningWord(p), p.Domains)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}
