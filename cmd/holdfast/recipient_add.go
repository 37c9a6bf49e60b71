package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

func (a *app) recipientAddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add ADDRESS...",
		Short: "List recipients",
		Long: `Add recipients to the lists of their domains. It returns when every node has them;
those that are listed stay so.

A listed recipient is taken with --verify callout and --verify listed, whatever its
destination says of it, and its mail is held while the destination is down. Upper and
lower case are the same in a list.`,
		Example: `  holdfast recipient add anna@example.com bert@example.com`,
		Args:    arguments(cobra.MinimumNArgs(1), "one address or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeLists(cmd, args, adding, "added", "listed before")
		},
	}
}

// changeLists changes the lists of the domains of some addresses, and says of each
// what was done, and what was so before.
func (a *app) changeLists(cmd *cobra.Command, addresses []string, change func(*grpc.ClientConn) changeRecipients, done, before string) error {
	domains, err := byDomain(addresses)
	if err != nil {
		return err
	}
	return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
		for _, of := range domains {
			sum, err := a.inPieces(ctx, change(conn), done, of.domain, of.addresses)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("domain %s: %s %s", of.domain, plural(sum.changed, "recipient"), done)
			if rest := uint64(len(of.addresses)) - sum.changed; rest > 0 {
				text += fmt.Sprintf(", %d %s", rest, before)
			}
			if _, err := fmt.Fprintf(a.out, "%s; it lists %d\n", text, sum.listed); err != nil {
				return err
			}
		}
		return nil
	})
}
