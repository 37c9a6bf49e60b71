package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) logSearchCommand() *cobra.Command {
	var filter filterFlags
	var id string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Search messages, newest first",
		Long:  "Search messages, pending and finished, newest first.\n" + filterHelp,
		Example: `  holdfast log search --to user@example.com --since 2d
  holdfast log search --domain example.com --state failed --json
  holdfast log search --id 01KAP4T8B3Q6W5CEXJ2MRZ7HDV`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := filter.filter(a)
			if err != nil {
				return err
			}
			if id != "" && (f != nil || filter.limit > 0) {
				return usage("--id names one message: no other filter goes with it")
			}
			show := a.messageLister(asJSON, a.logRows)
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				log := pb.NewLogServiceClient(conn)
				if id != "" {
					r, err := log.GetLog(ctx, &pb.GetLogRequest{Id: id, PageSize: 1})
					if err != nil {
						return err
					}
					a.warnStale(r.Stale)
					return show([]*pb.Message{r.Message})
				}
				fetch := func(size uint32, token string) (page[*pb.Message], error) {
					r, err := log.SearchLog(ctx, &pb.SearchLogRequest{Filter: f, PageSize: size, PageToken: token})
					return page[*pb.Message]{items: r.GetMessages(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				return eachPage(a, filter.limit, fetch, show)
			})
		},
	}
	filter.add(cmd)
	cmd.Flags().StringVar(&id, "id", "", "the message with this id")
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) logRows(t table, header bool, messages []*pb.Message) {
	if header {
		t.row("ID", "ACCEPTED", "FROM", "TO", "STATE", "TRIES", "LAST ERROR")
	}
	for _, m := range messages {
		id, at, from := m.Id, a.when(m.AcceptedAt), sender(m.From)
		for _, r := range m.Recipients {
			t.row(id, at, from, r.Address, recipientState(r), r.Attempts, describeError(r.LastError))
			id, at, from = "", "", ""
		}
	}
}

// eventWord is a kind of history row as users read it: "attempt-failed".
func eventWord(kind pb.HistoryRecord_Kind) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(kind.String(), "KIND_")), "_", "-")
}
