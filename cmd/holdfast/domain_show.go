package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"holdfast/admin/configfile"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (a *app) domainShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one domain",
		Long:    "Show one domain with its counts of recipients.",
		Example: "  holdfast domain show example.com",
		Args:    oneArgument("domain"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewDomainServiceClient(conn).GetDomain(ctx, &pb.GetDomainRequest{Name: args[0]})
				if err != nil {
					return err
				}
				a.warnStale(r.Stale)
				if asJSON {
					return a.writeJSON(toDomainJSON(r.Domain))
				}
				t := newTable(a.out)
				t.row("domain", r.Domain.Name)
				t.row("destination", r.Domain.Destination)
				t.row("policy", r.Domain.Policy)
				t.row("verify", configfile.VerifyWord(r.Domain.Verify))
				t.row("listed", plural(r.Domain.Listed, "recipient"))
				spamRows(t, r.Domain)
				t.row("held", limited(r.Domain.Messages, r.Domain.MaxMessages, "messages")+", "+limited(r.Domain.Bytes, r.Domain.MaxBytes, "bytes"))
				countRows(t, r.Domain.Count)
				return t.flush()
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func countRows(t table, c *pb.QueueCount) {
	t.row("recipients", fmt.Sprintf("%d pending, %d held, %d frozen, %d in doubt; %d delivered, %d failed",
		c.GetPending(), c.GetHeld(), c.GetFrozen(), c.GetInDoubt(), c.GetDelivered(), c.GetFailed()))
}

func spamRows(t table, d *pb.Domain) {
	if len(d.SpamIf) == 0 {
		t.row("spam", "no rule")
		return
	}
	t.row("spam if", strings.Join(d.SpamIf, " and "))
	t.row("spam retention", relay.FormatDuration(d.SpamRetention.AsDuration())+", or the policy's if that is shorter; then dropped")
}

func limited(held, limit uint64, what string) string {
	if limit == 0 {
		return fmt.Sprintf("%d %s (no limit)", held, what)
	}
	return fmt.Sprintf("%d of at most %d %s", held, limit, what)
}
