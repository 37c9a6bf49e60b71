package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) logShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one message with every attempt",
		Long:    "Show one message, waiting or finished, with everything that happened to it.",
		Example: "  holdfast log show 01KAP4T8B3Q6W5CEXJ2MRZ7HDV",
		Args:    oneArgument("message id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				log := pb.NewLogServiceClient(conn)
				var message *pb.Message
				fetch := func(size uint32, token string) (page[*pb.HistoryEntry], error) {
					r, err := log.GetLog(ctx, &pb.GetLogRequest{Id: args[0], PageSize: size, PageToken: token})
					message = r.GetMessage()
					return page[*pb.HistoryEntry]{items: r.GetHistory(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				if asJSON {
					var history []*pb.HistoryEntry
					collect := func(rows []*pb.HistoryEntry) error {
						history = append(history, rows...)
						return nil
					}
					if err := eachPage(a, 0, fetch, collect); err != nil {
						return err
					}
					return a.writeJSON(toDetailJSON(message, history))
				}
				header := true
				return eachPage(a, 0, fetch, func(rows []*pb.HistoryEntry) error {
					if header {
						if err := a.showMessage(message); err != nil {
							return err
						}
					}
					defer func() { header = false }()
					return a.showHistory(header, rows)
				})
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) showHistory(header bool, history []*pb.HistoryEntry) error {
	t := newTable(a.out)
	if header {
		fmt.Fprintln(a.out)
		t.row("TIME", "EVENT", "NODE", "HOST", "TLS", "TOOK", "RECIPIENTS", "DETAIL")
	}
	for _, h := range history {
		took := "-"
		if h.Duration != nil {
			took = h.Duration.AsDuration().Round(time.Millisecond).String()
		}
		t.row(a.when(h.Time), eventWord(h.Kind), dash(h.Node), dash(h.Host), dash(h.Tls), took,
			dash(strings.Join(h.Recipients, ", ")), detail(h))
	}
	return t.flush()
}

// detail is what a row has to say besides its columns.
func detail(h *pb.HistoryEntry) string {
	var parts []string
	if h.By != "" {
		parts = append(parts, "by "+h.By)
	}
	if h.Reason != "" {
		parts = append(parts, "reason: "+h.Reason)
	}
	if h.Error != nil {
		parts = append(parts, describeError(h.Error))
	}
	if h.Text != "" {
		parts = append(parts, h.Text)
	}
	if h.NextAttempt != nil {
		parts = append(parts, "next attempt "+h.NextAttempt.AsTime().Format("2006-01-02 15:04:05Z"))
	}
	if h.Report != "" {
		parts = append(parts, "report "+h.Report)
	}
	return dash(strings.Join(parts, "; "))
}
