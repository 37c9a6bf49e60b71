package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

// countJSON is a count of the queue.
type countJSON struct {
	Pending uint64 `json:"pending"`
	Held    uint64 `json:"held"`
	Frozen  uint64 `json:"frozen"`
	InDoubt uint64 `json:"inDoubt"`
}

func toCountJSON(c *pb.QueueCount) countJSON {
	return countJSON{Pending: c.GetPending(), Held: c.GetHeld(), Frozen: c.GetFrozen(), InDoubt: c.GetInDoubt()}
}

type endedJSON struct {
	countJSON
	Delivered uint64 `json:"delivered"`
	Failed    uint64 `json:"failed"`
}

func toEndedJSON(c *pb.QueueCount) endedJSON {
	return endedJSON{countJSON: toCountJSON(c), Delivered: c.GetDelivered(), Failed: c.GetFailed()}
}

type domainCountJSON struct {
	Domain string `json:"domain"`
	endedJSON
}

type destinationCountJSON struct {
	Destination string `json:"destination"`
	endedJSON
}

func (a *app) queueCountCommand() *cobra.Command {
	var filter filterFlags
	var by, at string
	var flags watchFlags
	cmd := &cobra.Command{
		Use:   "count",
		Short: "Count waiting recipients",
		Long: `Count waiting recipients, of all, of those that a filter picks, or by domain or
destination; the latter also counts what was delivered and what failed
(returned, dropped, deleted or frozen).
` + filterHelp(countedStates),
		Example: `  holdfast queue count
  holdfast queue count --by domain --watch
  holdfast queue count --at 2026-01-31T03:12:00Z
  holdfast queue count --to '*@example.com' --older 1d`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := countRequest(a, &filter, by); err != nil {
				return err
			}
			past, err := a.parsePast(at)
			if err != nil {
				return err
			}
			return a.show(cmd, flags, func(ctx context.Context, conn *grpc.ClientConn) error {
				req, err := countRequest(a, &filter, by) // each time anew: what --older says moves on
				if err != nil {
					return err
				}
				req.At = past
				r, err := pb.NewQueueServiceClient(conn).CountQueue(ctx, req)
				if err != nil {
					return err
				}
				a.warnStale(r.Stale)
				if flags.asJSON {
					return a.countsAsJSON(req.By, r.Rows)
				}
				return a.countsAsTable(by, r.Rows)
			})
		},
	}
	filter.add(cmd)
	hide(cmd.Flags(), "limit")
	addAt(cmd.Flags(), &at)
	cmd.Flags().StringVar(&by, "by", "", "count apart: domain or destination")
	flags.add(cmd)
	return cmd
}

func countRequest(a *app, filter *filterFlags, by string) (*pb.CountQueueRequest, error) {
	if filter.limit != 0 {
		return nil, usage("--limit: a count has no limit")
	}
	f, err := filter.filter(a)
	if err != nil {
		return nil, err
	}
	req := &pb.CountQueueRequest{Filter: f}
	switch by {
	case "":
	case "domain":
		req.By = pb.CountQueueRequest_BY_DOMAIN
	case "destination":
		req.By = pb.CountQueueRequest_BY_DESTINATION
	default:
		return nil, usage("--by %s: want domain or destination", by)
	}
	return req, nil
}

func (a *app) countsAsJSON(by pb.CountQueueRequest_By, rows []*pb.CountQueueResponse_Row) error {
	for _, row := range rows {
		var line any
		switch by {
		case pb.CountQueueRequest_BY_DOMAIN:
			line = domainCountJSON{Domain: row.Name, endedJSON: toEndedJSON(row.Count)}
		case pb.CountQueueRequest_BY_DESTINATION:
			line = destinationCountJSON{Destination: row.Name, endedJSON: toEndedJSON(row.Count)}
		default:
			line = toCountJSON(row.Count)
		}
		if err := a.writeJSON(line); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) countsAsTable(by string, rows []*pb.CountQueueResponse_Row) error {
	t := newTable(a.out)
	switch by {
	case "":
		t.header("PENDING", "HELD", "FROZEN", "IN DOUBT")
		for _, row := range rows {
			t.row(row.Count.Pending, row.Count.Held, row.Count.Frozen, row.Count.InDoubt)
		}
	default:
		t.header(map[string]string{"domain": "DOMAIN", "destination": "DESTINATION"}[by],
			"PENDING", "HELD", "FROZEN", "IN DOUBT", "DELIVERED", "FAILED")
		for _, row := range rows {
			c := row.Count
			t.row(dash(row.Name), c.Pending, c.Held, c.Frozen, c.InDoubt, c.Delivered, c.Failed)
		}
	}
	return t.flush()
}
