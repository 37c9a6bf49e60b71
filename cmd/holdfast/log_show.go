package main

import (
	"context"
	"fmt"
	"net"
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
		t.header("TIME", "EVENT", "NODE", "HOST", "TLS", "TOOK", "RECIPIENTS", "DETAIL")
	}
	for _, h := range history {
		took := "-"
		if h.Duration != nil {
			took = h.Duration.AsDuration().Round(time.Millisecond).String()
		}
		t.row(a.when(h.Time), cell{eventWord(h.Kind), eventLook(h.Kind)}, dash(h.Node), dash(relayOf(h)), dash(h.Tls), took,
			dash(strings.Join(h.Recipients, ", ")), detail(h))
	}
	return t.flush()
}

// relayOf is the host of an attempt, with its address where that says more, as
// Postfix writes it: mail.example.com[192.0.2.25]:25.
func relayOf(h *pb.HistoryEntry) string {
	host, port, err := net.SplitHostPort(h.Host)
	address, _, addressErr := net.SplitHostPort(h.Address)
	if err != nil || addressErr != nil || host == address {
		return h.Host
	}
	return fmt.Sprintf("%s[%s]:%s", host, address, port)
}

// eventLook is how an event looks: what delivered, what failed for now, and what
// is for an operator to know.
func eventLook(kind pb.HistoryRecord_Kind) look {
	switch kind {
	case pb.HistoryRecord_KIND_DELIVERED:
		return green
	case pb.HistoryRecord_KIND_ATTEMPT_FAILED, pb.HistoryRecord_KIND_HELD, pb.HistoryRecord_KIND_DELAY_WARNED:
		return yellow
	case pb.HistoryRecord_KIND_BOUNCED, pb.HistoryRecord_KIND_DROPPED, pb.HistoryRecord_KIND_FROZEN,
		pb.HistoryRecord_KIND_IN_DOUBT, pb.HistoryRecord_KIND_ABORTED, pb.HistoryRecord_KIND_DUPLICATE, pb.HistoryRecord_KIND_DELIVERED_ELSEWHERE,
		pb.HistoryRecord_KIND_DELETED:
		return red
	}
	return plain
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
