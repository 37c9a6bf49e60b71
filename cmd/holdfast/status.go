package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

type statusJSON struct {
	Leader           *string       `json:"leader"`
	Stale            bool          `json:"stale"`
	StateVersion     uint32        `json:"stateVersion"`
	Nodes            []nodeJSON    `json:"nodes"`
	Queue            countJSON     `json:"queue"`
	DestinationsDown []downJSON    `json:"destinationsDown"`
	Warnings         []warningJSON `json:"warnings"`
}

type nodeJSON struct {
	Name         string  `json:"name"`
	Role         string  `json:"role"`
	Alive        bool    `json:"alive"`
	AppliedIndex *uint64 `json:"appliedIndex"`
	Version      *string `json:"version"`
	Reads        *uint32 `json:"readsStateVersion"`
}

type downJSON struct {
	Name      string  `json:"name"`
	Since     *string `json:"since"`
	Cause     *string `json:"cause"`
	NextProbe *string `json:"nextProbe"`
}

type warningJSON struct {
	Code    string  `json:"code"`
	Subject *string `json:"subject"`
	Text    string  `json:"text"`
}

func (a *app) statusCommand() *cobra.Command {
	var flags watchFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show nodes, queue, destinations that are down, warnings",
		Long: `Show the cluster's nodes and leader, the queue by state, destinations that are
down, and warnings. It works without a quorum too, and then says that it is stale.`,
		Example: `  holdfast status
  holdfast status --watch
  holdfast status --addr 127.0.0.1:7501 --json`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.show(cmd, flags, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewClusterServiceClient(conn).GetStatus(ctx, &pb.GetStatusRequest{})
				if err != nil {
					return err
				}
				if flags.asJSON {
					return a.writeJSON(toStatusJSON(r))
				}
				return a.showStatus(r)
			})
		},
	}
	flags.add(cmd)
	return cmd
}

func toStatusJSON(r *pb.GetStatusResponse) statusJSON {
	out := statusJSON{
		Leader: orNull(r.Leader), Stale: r.Stale, StateVersion: r.StateVersion, Queue: toCountJSON(r.Queue),
		Nodes: []nodeJSON{}, DestinationsDown: []downJSON{}, Warnings: []warningJSON{},
	}
	for _, n := range r.Nodes {
		out.Nodes = append(out.Nodes, nodeJSON{
			Name: n.Name, Role: roleWord(n.Voter), Alive: n.Alive,
			AppliedIndex: orNull(n.AppliedIndex), Version: orNull(n.Version), Reads: orNull(n.Reads),
		})
	}
	for _, d := range r.DestinationsDown {
		out.DestinationsDown = append(out.DestinationsDown, downJSON{
			Name: d.Name, Since: timeJSON(d.Since), Cause: orNull(d.Error.GetCause()), NextProbe: timeJSON(d.NextProbe),
		})
	}
	for _, w := range r.Warnings {
		out.Warnings = append(out.Warnings, warningJSON{Code: w.Code, Subject: orNull(w.Subject), Text: w.Text})
	}
	return out
}

func (a *app) showStatus(r *pb.GetStatusResponse) error {
	whole := r.Node != "" // else the caller is limited to domains
	if r.Stale {
		text := "STALE: the node has no quorum, this is its own state"
		if whole {
			text = fmt.Sprintf("STALE: node %s has no quorum, this is its own state at index %d", r.Node, r.AppliedIndex)
		}
		fmt.Fprintln(a.out, screenOf(a.out).paint(text, red))
	}
	t := newTable(a.out)
	if whole {
		t.row("cluster", dash(r.ClusterId))
		t.row("leader", dash(r.Leader))
		t.row("answered by", "node "+r.Node)
		t.row("state version", r.StateVersion)
	}
	t.row("queue", fmt.Sprintf("%d pending, %d held, %d frozen; %d of them in doubt",
		r.Queue.GetPending(), r.Queue.GetHeld(), r.Queue.GetFrozen(), r.Queue.GetInDoubt()))
	if err := t.flush(); err != nil {
		return err
	}
	if whole {
		if err := a.showNodes(r.Nodes); err != nil {
			return err
		}
	}
	if err := a.showDown(r.DestinationsDown); err != nil {
		return err
	}
	if len(r.Warnings) > 0 {
		fmt.Fprintln(a.out)
	}
	warnings := newTable(a.out)
	warnings.grid.gap = 1 // these are sentences, folded behind their first word
	for _, w := range r.Warnings {
		warnings.row(cell{"warning:", yellow}, w.Text)
	}
	return warnings.flush()
}

func (a *app) showNodes(all []*pb.GetStatusResponse_Node) error {
	fmt.Fprintln(a.out)
	nodes := newTable(a.out)
	nodes.header("NODE", "ROLE", "ALIVE", "APPLIED", "SMTP", "ADMIN", "VERSION")
	for _, n := range all {
		applied := "-"
		if n.AppliedIndex > 0 {
			applied = fmt.Sprint(n.AppliedIndex)
		}
		alive := cell{"yes", green}
		if !n.Alive {
			alive = cell{"no", red}
		} else if n.Draining {
			alive = cell{"draining", yellow}
		}
		nodes.row(n.Name, roleWord(n.Voter), alive, applied, dash(n.SmtpAddress), dash(n.AdminAddress), dash(n.Version))
	}
	return nodes.flush()
}

func (a *app) showDown(down []*pb.GetStatusResponse_DestinationDown) error {
	if len(down) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	t := newTable(a.out)
	t.header("DOWN", "SINCE", "NEXT PROBE", "WHY")
	for _, d := range down {
		t.row(d.Name, a.when(d.Since), a.when(d.NextProbe), describeError(d.Error))
	}
	return t.flush()
}

func roleWord(voter bool) string {
	if voter {
		return "voter"
	}
	return "nonvoter"
}
