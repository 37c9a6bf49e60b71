package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	// maxListedAtOnce is how many recipients a call changes.
	maxListedAtOnce = 1000
	// maxListed is how many a domain may list.
	maxListed = 100_000
)

func (a *app) recipientCommand() *cobra.Command {
	recipient := group("recipient", "Recipients: lists, and what destinations say of them",
		`Which recipients of a domain are taken, its "verify" says ("holdfast domain set"):
all (off), those that its destination takes (callout), or those that are listed here
(listed). Listed recipients are taken with callout too, without a question and while
the destination is down.`)
	recipient.AddCommand(a.recipientAddCommand(), a.recipientRemoveCommand(), a.recipientListCommand(),
		a.recipientImportCommand(), a.recipientCheckCommand())
	return recipient
}

// listChange is what changes of a domain's list came to.
type listChange struct {
	changed uint64 // recipients
	listed  uint64 // by the domain then
}

// changeRecipients is a call that adds recipients to a domain's list, or removes them.
type changeRecipients func(ctx context.Context, domain string, piece []string) (listChange, error)

func adding(conn *grpc.ClientConn) changeRecipients {
	return func(ctx context.Context, domain string, piece []string) (listChange, error) {
		r, err := pb.NewRecipientServiceClient(conn).AddRecipients(ctx, &pb.AddRecipientsRequest{Domain: domain, Addresses: piece})
		return listChange{uint64(r.GetAdded()), r.GetListed()}, err
	}
}

func removing(conn *grpc.ClientConn) changeRecipients {
	return func(ctx context.Context, domain string, piece []string) (listChange, error) {
		r, err := pb.NewRecipientServiceClient(conn).RemoveRecipients(ctx, &pb.RemoveRecipientsRequest{Domain: domain, Addresses: piece})
		return listChange{uint64(r.GetRemoved()), r.GetListed()}, err
	}
}

// inPieces changes a list in pieces that a call takes. Where one fails, it says how
// far it came.
func (a *app) inPieces(ctx context.Context, change changeRecipients, done, domain string, addresses []string) (sum listChange, err error) {
	defer a.endProgress()
	for piece := range slices.Chunk(addresses, maxListedAtOnce) {
		part, err := change(ctx, domain, piece)
		if err != nil && sum.changed > 0 {
			return sum, fmt.Errorf("%w (before that, %s of %s %s; it is safe to repeat)", err, plural(sum.changed, "recipient"), domain, done)
		}
		if err != nil {
			return sum, err
		}
		sum.changed += part.changed
		sum.listed = part.listed
		a.progress("%s: %s %s", domain, plural(sum.changed, "recipient"), done)
	}
	return sum, nil
}

// ofDomain are addresses of one domain.
type ofDomain struct {
	domain    string
	addresses []string
}

// byDomain sorts addresses by their domains, those in the order in which they come.
func byDomain(addresses []string) ([]ofDomain, error) {
	var all []ofDomain
	for _, address := range addresses {
		_, domain, err := relay.ParseMailbox(address)
		if err != nil {
			return nil, usage("%q is not a mail address", address)
		}
		i := slices.IndexFunc(all, func(o ofDomain) bool { return o.domain == domain })
		if i < 0 {
			i, all = len(all), append(all, ofDomain{domain: domain})
		}
		all[i].addresses = append(all[i].addresses, address)
	}
	return all, nil
}

// domainWord is a domain as it is configured, where it is given in U-labels or in
// upper case; others stay as they are, for the node to say what is wrong.
func domainWord(given string) string {
	if domain := relay.RelayDomain("x@" + given); domain != "" {
		return domain
	}
	return given
}

// listedBy are the addresses that a domain lists, sorted by local part. Whether they
// are stale matters only where nothing is changed then: a change needs a quorum.
func listedBy(ctx context.Context, conn *grpc.ClientConn, domain string) (all []string, stale bool, err error) {
	fetch := listedPages(ctx, conn, domain)
	for token := ""; ; {
		p, err := fetch(maxListedAtOnce, token)
		if err != nil {
			return nil, false, err
		}
		for _, r := range p.items {
			all = append(all, r.Address)
		}
		stale = stale || p.stale
		if token = p.next; token == "" {
			return all, stale, nil
		}
	}
}

func listedPages(ctx context.Context, conn *grpc.ClientConn, domain string) func(uint32, string) (page[*pb.ListedRecipient], error) {
	client := pb.NewRecipientServiceClient(conn)
	return func(size uint32, token string) (page[*pb.ListedRecipient], error) {
		r, err := client.ListRecipients(ctx, &pb.ListRecipientsRequest{Domain: domain, PageSize: size, PageToken: token})
		return page[*pb.ListedRecipient]{items: r.GetRecipients(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
	}
}

// some names a few of many.
func some(addresses []string) string {
	const most = 5
	text := strings.Join(addresses[:min(most, len(addresses))], ", ")
	if more := len(addresses) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return printable(text)
}
