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
				r, err := pb.NewLogServiceClient(conn).GetLog(ctx, &pb.GetLogRequest{Id: args[0]})
				if err != nil {
					return err
				}
				a.warnStale(r.Stale)
				if asJSON {
					return a.writeJSON(toDetailJSON(r))
				}
				if err := a.showMessage(r.Message); err != nil {
					return err
				}
				return a.showHistory(r.History)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) showHistory(history []*pb.HistoryEntry) error {
	fmt.Fprintln(a.out)
	t := newTable(a.out)
	t.row("TIME", "EVENT", "NODE", "HOST", "TLS", "TOOK", "RECIPIENTS", "DETAIL")
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
