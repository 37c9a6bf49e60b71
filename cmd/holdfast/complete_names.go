package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	// completionPage is as much as a node gives at once.
	completionPage = 1000
	// maxOffered is how many messages are offered: among more nobody finds one.
	maxOffered = 500
	// maxIDs is how many messages a command takes by id.
	maxIDs = 1000
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// eachName reads a list to its end.
func eachName[T any](fetch func(token string) ([]T, string, error), name func(T) cobra.Completion) (found []cobra.Completion, err error) {
	for token := ""; ; {
		items, next, err := fetch(token)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			found = append(found, name(item))
		}
		if token = next; token == "" {
			return found, nil
		}
	}
}

func domainNames(ctx context.Context, conn *grpc.ClientConn, _ string) ([]cobra.Completion, error) {
	return eachName(func(token string) ([]*pb.Domain, string, error) {
		r, err := pb.NewDomainServiceClient(conn).ListDomains(ctx, &pb.ListDomainsRequest{PageSize: completionPage, PageToken: token})
		return r.GetDomains(), r.GetNextPageToken(), err
	}, func(d *pb.Domain) cobra.Completion { return described(d.Name, "goes to "+d.Destination) })
}

func destinationNames(ctx context.Context, conn *grpc.ClientConn, _ string) ([]cobra.Completion, error) {
	return eachName(func(token string) ([]*pb.Destination, string, error) {
		r, err := pb.NewDestinationServiceClient(conn).ListDestinations(ctx, &pb.ListDestinationsRequest{PageSize: completionPage, PageToken: token})
		return r.GetDestinations(), r.GetNextPageToken(), err
	}, func(d *pb.Destination) cobra.Completion {
		return described(d.Name, healthWord(d.State)+", "+hostList(d))
	})
}

// policyNames are those of all policies, or of the operators' own.
func policyNames(own bool) nameLister {
	return func(ctx context.Context, conn *grpc.ClientConn, _ string) ([]cobra.Completion, error) {
		return eachName(func(token string) ([]*pb.Policy, string, error) {
			r, err := pb.NewPolicyServiceClient(conn).ListPolicies(ctx, &pb.ListPoliciesRequest{PageSize: completionPage, PageToken: token})
			policies := r.GetPolicies()
			if own {
				policies = slices.DeleteFunc(policies, (*pb.Policy).GetShipped)
			}
			return policies, r.GetNextPageToken(), err
		}, func(p *pb.Policy) cobra.Completion {
			return described(p.Name, fmt.Sprintf("%d attempts over %s", p.Planned, relay.FormatDuration(p.Retention.AsDuration())))
		})
	}
}

func tokenNames(ctx context.Context, conn *grpc.ClientConn, _ string) ([]cobra.Completion, error) {
	return eachName(func(token string) ([]*pb.Token, string, error) {
		r, err := pb.NewAccessServiceClient(conn).ListTokens(ctx, &pb.ListTokensRequest{PageSize: completionPage, PageToken: token})
		return r.GetTokens(), r.GetNextPageToken(), err
	}, func(t *pb.Token) cobra.Completion {
		return described(t.Name, roleName(t.Role)+" of "+domainsWord(t.Domains))
	})
}

func accountNames(ctx context.Context, conn *grpc.ClientConn, _ string) ([]cobra.Completion, error) {
	return eachName(func(token string) ([]*pb.Account, string, error) {
		r, err := pb.NewAccessServiceClient(conn).ListAccounts(ctx, &pb.ListAccountsRequest{PageSize: completionPage, PageToken: token})
		return r.GetAccounts(), r.GetNextPageToken(), err
	}, func(account *pb.Account) cobra.Completion {
		return described(account.Name, "password of "+account.ChangedAt.AsTime().Format(time.DateOnly))
	})
}

// listedRecipients are those of the domain that an address already names: among all
// domains' nobody finds one.
func listedRecipients(ctx context.Context, conn *grpc.ClientConn, prefix string) ([]cobra.Completion, error) {
	domain := relay.DomainOf(prefix)
	if domain == "" {
		return nil, nil
	}
	found, err := eachName(func(token string) ([]*pb.ListedRecipient, string, error) {
		r, err := pb.NewRecipientServiceClient(conn).ListRecipients(ctx, &pb.ListRecipientsRequest{Domain: domain, PageSize: completionPage, PageToken: token})
		return r.GetRecipients(), r.GetNextPageToken(), err
	}, func(r *pb.ListedRecipient) cobra.Completion { return described(r.Address, "listed by "+r.AddedBy) })
	return found, err
}

func nodeNames(ctx context.Context, conn *grpc.ClientConn, _ string) ([]cobra.Completion, error) {
	r, err := pb.NewClusterServiceClient(conn).GetStatus(ctx, &pb.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, n := range r.Nodes {
		about := "follows"
		switch {
		case !n.Alive:
			about = "down"
		case n.Draining:
			about = "draining"
		case n.Name == r.Leader:
			about = "leads"
		}
		found = append(found, described(n.Name, about))
	}
	return found, nil
}

// queuedIDs are messages of the queue with a recipient in one of the states.
func queuedIDs(states ...pb.RecipientState) nameLister {
	return func(ctx context.Context, conn *grpc.ClientConn, prefix string) ([]cobra.Completion, error) {
		queue := pb.NewQueueServiceClient(conn)
		return messageIDs(prefix, func(f *pb.MessageFilter, token string) ([]*pb.Message, string, error) {
			f.States = states
			r, err := queue.ListQueue(ctx, &pb.ListQueueRequest{Filter: f, PageSize: maxOffered, PageToken: token})
			return r.GetMessages(), r.GetNextPageToken(), err
		})
	}
}

func loggedIDs(ctx context.Context, conn *grpc.ClientConn, prefix string) ([]cobra.Completion, error) {
	log := pb.NewLogServiceClient(conn)
	return messageIDs(prefix, func(f *pb.MessageFilter, token string) ([]*pb.Message, string, error) {
		r, err := log.SearchLog(ctx, &pb.SearchLogRequest{Filter: f, PageSize: maxOffered, PageToken: token})
		return r.GetMessages(), r.GetNextPageToken(), err
	})
}

// tooManyError is in place of some of the ids: what is common to those isn't to all.
type tooManyError struct{}

func (*tooManyError) Error() string {
	return fmt.Sprintf("more than %d messages: type more of the id", maxOffered)
}

// messageIDs are the ids that begin with a prefix.
func messageIDs(prefix string, fetch func(f *pb.MessageFilter, token string) ([]*pb.Message, string, error)) (found []cobra.Completion, err error) {
	f, ok := acceptedWithPrefix(prefix)
	if !ok {
		return nil, nil
	}
	for token := ""; ; {
		messages, next, err := fetch(f, token)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if strings.HasPrefix(m.Id, prefix) {
				found = append(found, described(m.Id, aboutMessage(m)))
			}
		}
		if len(found) > maxOffered {
			return nil, &tooManyError{}
		}
		if token = next; token == "" {
			return found, nil
		}
	}
}

func aboutMessage(m *pb.Message) string {
	to := ""
	if len(m.Recipients) > 0 {
		to = m.Recipients[0].Address
	}
	if more := len(m.Recipients) - 1; more > 0 {
		to += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s, %s -> %s", stateWord(m.State), sender(m.From), to)
}

// acceptedWithPrefix narrows a list to the time that the ids with a prefix were
// made in: a ULID begins with its millisecond. A message is accepted a moment
// later, or at the end of a long transfer.
func acceptedWithPrefix(prefix string) (*pb.MessageFilter, bool) {
	const length, slack = 26, time.Hour
	f := &pb.MessageFilter{}
	if prefix == "" {
		return f, true
	}
	if len(prefix) > length {
		return nil, false
	}
	first, err := relay.ParseMessageID(prefix + strings.Repeat("0", length-len(prefix)))
	if err != nil {
		return nil, false
	}
	f.Since = timestamppb.New(first.Time().Add(-slack))
	last, err := relay.ParseMessageID(prefix + strings.Repeat("Z", length-len(prefix)))
	if until := timestamppb.New(last.Time().Add(slack)); err == nil && until.IsValid() {
		f.Until = until
	}
	return f, true
}
