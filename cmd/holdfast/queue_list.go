package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) queueListCommand() *cobra.Command {
	var filter filterFlags
	var at string
	var flags watchFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List waiting messages, by domain, oldest first",
		Long: "List waiting messages by domain, oldest first, with the reason why each waits.\n" +
			"With --at, the queue as it was then, in order of acceptance.\n" + filterHelp(listedStates),
		Example: `  holdfast queue list
  holdfast queue list --domain example.com --older 4h
  holdfast queue list --destination office --limit 20 --watch
  holdfast queue list --at 03:12
  holdfast queue list --from '<>' --state frozen --json`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := filter.filter(a); err != nil {
				return err
			}
			past, err := a.parsePast(at)
			if err != nil {
				return err
			}
			return a.show(cmd, flags, func(ctx context.Context, conn *grpc.ClientConn) error {
				f, err := filter.filter(a) // each time anew: what --older says moves on
				if err != nil {
					return err
				}
				queue := pb.NewQueueServiceClient(conn)
				fetch := func(size uint32, token string) (page[*pb.Message], error) {
					r, err := queue.ListQueue(ctx, &pb.ListQueueRequest{Filter: f, PageSize: size, PageToken: token, At: past})
					if past != nil && err == nil {
						past.Index = r.Index // of all pages
					}
					return page[*pb.Message]{items: r.GetMessages(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				return eachPage(a, filter.limit, fetch, a.messageLister(flags.asJSON, a.queueRows))
			})
		},
	}
	filter.add(cmd)
	addAt(cmd.Flags(), &at)
	flags.add(cmd)
	return cmd
}

// messageLister shows pages of messages, as JSON or with a header above the
// first row.
func (a *app) messageLister(asJSON bool, rows func(t table, header bool, m []*pb.Message)) func([]*pb.Message) error {
	header := true
	return func(messages []*pb.Message) error {
		if asJSON {
			for _, m := range messages {
				if err := a.writeJSON(toMessageJSON(m)); err != nil {
					return err
				}
			}
			return nil
		}
		if len(messages) == 0 {
			return nil
		}
		t := newTable(a.out)
		rows(t, header, messages)
		header = false
		return t.flush()
	}
}

func (a *app) queueRows(t table, header bool, messages []*pb.Message) {
	if header {
		t.header("ID", "FROM", "TO", "STATE", "TRIES", "NEXT ATTEMPT", "WHY")
	}
	for _, m := range messages {
		id, from := m.Id, sender(m.From)
		for _, r := range m.Recipients {
			why := "-"
			if len(r.Causes) > 0 {
				why = r.Causes[0]
			}
			t.row(id, from, r.Address, recipientState(r), r.Attempts, a.when(r.NextAttempt), why)
			id, from = "", ""
		}
	}
}
