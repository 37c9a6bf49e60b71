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
	var id, header, reply string
	var oldest, asJSON bool
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Search messages, pending and finished",
		Long: `Search messages, pending and finished, newest first. All that is given must fit.
--reply looks for part of what a remote server replied, its codes included, in
every message that the rest picks, and so needs --since.
` + filterHelp(searchedStates),
		Example: `  holdfast log search --to user@example.com --since 2d
  holdfast log search --domain example.com --state failed --json
  holdfast log search --since 2h --reply 'greylisted'
  holdfast log search --message-id '<4711@mail.example.com>'
  holdfast log search --id 01KAP4T8B3Q6W5CEXJ2MRZ7HDV`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := filter.filter(a)
			if err != nil {
				return err
			}
			if id != "" && (f != nil || filter.limit > 0 || header != "" || reply != "" || oldest) {
				return usage("--id names one message: no other filter goes with it")
			}
			if reply != "" && filter.since == "" {
				return usage("--reply reads every message of the time: say --since when")
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
					r, err := log.SearchLog(ctx, &pb.SearchLogRequest{
						Filter: f, PageSize: size, PageToken: token, HeaderMessageId: header, Reply: reply, OldestFirst: oldest,
					})
					return page[*pb.Message]{items: r.GetMessages(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				return eachPage(a, filter.limit, fetch, show)
			})
		},
	}
	filter.add(cmd)
	cmd.Flags().StringVar(&id, "id", "", "the message with this id")
	cmd.Flags().StringVar(&header, "message-id", "", "messages with this Message-ID header")
	cmd.Flags().StringVar(&reply, "reply", "", "part of what a remote server replied")
	cmd.Flags().BoolVar(&oldest, "oldest-first", false, "oldest first")
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) logRows(t table, header bool, messages []*pb.Message) {
	if header {
		t.header("ID", "ACCEPTED", "FROM", "TO", "STATE", "TRIES", "LAST ERROR")
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
