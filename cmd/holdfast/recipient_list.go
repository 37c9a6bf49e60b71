package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

type listedJSON struct {
	Address string  `json:"address"`
	AddedAt *string `json:"addedAt"`
	AddedBy *string `json:"addedBy"`
}

// verifiedJSON is what is known of a recipient; without address it is of the domain.
type verifiedJSON struct {
	Address *string `json:"address"`
	verdictJSON
}

type verdictJSON struct {
	Verdict string     `json:"verdict"`
	At      *string    `json:"at"`
	Until   *string    `json:"until"`
	Error   *errorJSON `json:"error"`
}

func (a *app) recipientListCommand() *cobra.Command {
	var cache, asJSON bool
	cmd := &cobra.Command{
		Use:   "list DOMAIN",
		Short: "List a domain's recipients",
		Long: `List the recipients that a domain lists. --cache lists what its destination has said
of recipients instead, as far as that is good now: valid and invalid ones, and in a
line without a recipient whether it takes any (accepts-any) or refuses those that
don't exist (selective).`,
		Example: `  holdfast recipient list example.com
  holdfast recipient list example.com --cache --json`,
		Args: oneArgument("domain"),
		RunE: func(cmd *cobra.Command, args []string) error {
			domain := domainWord(args[0])
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				if cache {
					return a.showVerified(ctx, conn, domain, asJSON)
				}
				return a.showListed(ctx, conn, domain, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&cache, "cache", false, "what its destination has said of recipients")
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) showListed(ctx context.Context, conn *grpc.ClientConn, domain string, asJSON bool) error {
	t := newTable(a.out)
	if !asJSON {
		t.header("RECIPIENT", "ADDED", "BY")
	}
	err := eachPage(a, 0, listedPages(ctx, conn, domain), func(recipients []*pb.ListedRecipient) error {
		for _, r := range recipients {
			if asJSON {
				if err := a.writeJSON(listedJSON{Address: r.Address, AddedAt: timeJSON(r.AddedAt), AddedBy: orNull(r.AddedBy)}); err != nil {
					return err
				}
				continue
			}
			t.row(r.Address, a.when(r.AddedAt), dash(r.AddedBy))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}

func (a *app) showVerified(ctx context.Context, conn *grpc.ClientConn, domain string, asJSON bool) error {
	client := pb.NewRecipientServiceClient(conn)
	fetch := func(size uint32, token string) (page[*pb.VerifiedRecipient], error) {
		r, err := client.ListVerified(ctx, &pb.ListVerifiedRequest{Domain: domain, PageSize: size, PageToken: token})
		return page[*pb.VerifiedRecipient]{items: r.GetRecipients(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
	}
	t := newTable(a.out)
	if !asJSON {
		t.header("RECIPIENT", "VERDICT", "SINCE", "UNTIL", "ANSWER")
	}
	err := eachPage(a, 0, fetch, func(recipients []*pb.VerifiedRecipient) error {
		for _, r := range recipients {
			if asJSON {
				if err := a.writeJSON(verifiedJSON{Address: orNull(r.Address), verdictJSON: toVerdictJSON(r)}); err != nil {
					return err
				}
				continue
			}
			t.row(dash(r.Address), verdictCell(r.Verdict), a.when(r.At), a.when(r.Until), describeError(r.Error))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}

func toVerdictJSON(r *pb.VerifiedRecipient) verdictJSON {
	return verdictJSON{Verdict: verdictWord(r.Verdict), At: timeJSON(r.At), Until: timeJSON(r.Until), Error: toErrorJSON(r.Error)}
}

// verdictWord is a verdict in lower case: accepts-any.
func verdictWord(v pb.Verdict) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(v.String(), "VERDICT_")), "_", "-")
}

func verdictCell(v pb.Verdict) cell {
	look := plain
	switch v {
	case pb.Verdict_VERDICT_VALID:
		look = green
	case pb.Verdict_VERDICT_INVALID:
		look = red
	}
	return cell{verdictWord(v), look}
}
