package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "holdfast/proto/holdfast/v1"
)

// drillFaults are the faults by the words of the command line.
var drillFaults = map[string]pb.Fault{
	"kill-leader": pb.Fault_FAULT_KILL,
	"partition":   pb.Fault_FAULT_PARTITION,
	"pause":       pb.Fault_FAULT_PAUSE,
	"disk-full":   pb.Fault_FAULT_DISK_FULL,
}

func (a *app) clusterDrillCommand() *cobra.Command {
	var lasts durationFlag
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "drill kill-leader | partition NODE | pause NODE | disk-full NODE",
		Short: "Have a node fail on purpose, and see what it costs",
		Long: `Have a node fail on purpose while mail flows, watch what that costs, and report it.

kill-leader ends the leader's process at once, as kill -9 does; systemd or whoever
keeps the process must start it again. partition cuts a node off from the others.
pause stops its process (SIGSTOP), as a machine that hangs. disk-full makes its disk
count as full: it answers new mail 452 and goes on delivering.

The node ends its fault by itself after --for, whatever becomes of this command.
No test mail is sent. The drill needs consent (holdfast settings set
--drill-consent yes), a cluster in which all nodes are in service and no mail is in
doubt, and a node to watch from that isn't the one to fail. Each message that a
node answered 250 meanwhile is looked for in the log.

The exit status is 1 where one was lost, or where the cluster took longer than 3 s
to take mail again or 6 s to take over the node's deliveries.`,
		Example: `  holdfast settings set --drill-consent yes
  holdfast cluster drill kill-leader
  holdfast cluster drill partition c --for 20s
  holdfast cluster drill disk-full b --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || drillFaults[args[0]] == pb.Fault_FAULT_UNSPECIFIED {
				return usage("which fault? kill-leader, partition NODE, pause NODE or disk-full NODE")
			}
			if kill := args[0] == "kill-leader"; kill && len(args) != 1 || !kill && len(args) != 2 {
				return usage("holdfast cluster drill %s: want %s", args[0], map[bool]string{true: "no node: it is the leader", false: "one node"}[kill])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &pb.RunDrillRequest{Fault: drillFaults[args[0]]}
			if len(args) > 1 {
				req.Node = args[1]
			}
			if cmd.Flags().Changed("for") {
				req.Duration = durationpb.New(lasts.value)
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				report, err := a.runDrill(ctx, conn, req)
				if err != nil {
					return err
				}
				if asJSON {
					err = a.writeJSON(toDrillJSON(report))
				} else {
					err = a.showDrill(report)
				}
				if err == nil && len(report.Missed) > 0 {
					err = errors.New("the drill failed: " + strings.Join(report.Missed, "; "))
				}
				return err
			})
		},
	}
	cmd.Flags().Var(&lasts, "for", "how long the fault lasts, 10s to 5m (default 10s)")
	addJSON(cmd, &asJSON)
	return cmd
}

// runDrill shows on stderr how it goes.
func (a *app) runDrill(ctx context.Context, conn *grpc.ClientConn, req *pb.RunDrillRequest) (*pb.DrillReport, error) {
	stream, err := pb.NewClusterServiceClient(conn).RunDrill(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		told, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errors.New("the drill ended without a report")
		case err != nil:
			return nil, err
		case told.Report != nil:
			return told.Report, nil
		}
		fmt.Fprintln(a.err, printable(told.Progress))
	}
}

func (a *app) showDrill(r *pb.DrillReport) error {
	t := newTable(a.out)
	t.row("fault", fmt.Sprintf("%s of node %s, %s", faultWord(r.Fault), r.Node, a.when(r.StartedAt)))
	t.row("no node took mail for", inSecondsText(r.WithoutAcceptance))
	t.row("another leader after", inSecondsText(r.NewLeader))
	t.row("deliveries taken over after", inSecondsText(r.TakenOver))
	t.row("the node back after", inSecondsText(r.Back))
	t.row("in doubt, at most", r.InDoubt)
	t.row("delivered twice", r.Duplicates)
	t.row("answered 250", r.Answered)
	t.row("of these lost", len(r.Lost))
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	nodes := newTable(a.out)
	nodes.row("NODE", "TOOK NO MAIL FOR", "ANSWERED 250")
	for _, n := range r.Nodes {
		answered := fmt.Sprint(n.Answered)
		if n.Error != "" {
			answered = "unknown: " + n.Error
		}
		nodes.row(n.Name, inSecondsText(n.WithoutAcceptance), answered)
	}
	if err := nodes.flush(); err != nil {
		return err
	}
	for _, id := range r.Lost {
		fmt.Fprintf(a.out, "lost: %s\n", printable(id))
	}
	return nil
}

func faultWord(fault pb.Fault) string {
	for word, f := range drillFaults {
		if f == fault {
			return word
		}
	}
	return fault.String()
}

// inSecondsText is a dash for what didn't happen.
func inSecondsText(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f s", d.AsDuration().Seconds())
}

type drillJSON struct {
	ID                string          `json:"id"`
	Fault             string          `json:"fault"`
	Node              string          `json:"node"`
	Seconds           float64         `json:"seconds"`
	StartedAt         *string         `json:"startedAt"`
	EndedAt           *string         `json:"endedAt"`
	LeaderBefore      *string         `json:"leaderBefore"`
	LeaderAfter       *string         `json:"leaderAfter"`
	WithoutAcceptance *float64        `json:"secondsWithoutAcceptance"`
	NewLeader         *float64        `json:"secondsToNewLeader"`
	TakenOver         *float64        `json:"secondsToTakeOver"`
	Back              *float64        `json:"secondsToBack"`
	InDoubt           uint64          `json:"inDoubt"`
	Duplicates        uint64          `json:"duplicates"`
	Answered          uint64          `json:"answered"`
	Lost              []string        `json:"lost"`
	Missed            []string        `json:"missed"`
	Nodes             []drillNodeJSON `json:"nodes"`
}

type drillNodeJSON struct {
	Name              string   `json:"name"`
	WithoutAcceptance *float64 `json:"secondsWithoutAcceptance"`
	Answered          uint64   `json:"answered"`
	Error             *string  `json:"error"`
}

func toDrillJSON(r *pb.DrillReport) drillJSON {
	out := drillJSON{
		ID: r.Id, Fault: faultWord(r.Fault), Node: r.Node, Seconds: r.Duration.AsDuration().Seconds(),
		StartedAt: timeJSON(r.StartedAt), EndedAt: timeJSON(r.EndedAt),
		LeaderBefore: orNull(r.LeaderBefore), LeaderAfter: orNull(r.LeaderAfter),
		WithoutAcceptance: secondsJSON(r.WithoutAcceptance), NewLeader: secondsJSON(r.NewLeader),
		TakenOver: secondsJSON(r.TakenOver), Back: secondsJSON(r.Back),
		InDoubt: r.InDoubt, Duplicates: r.Duplicates, Answered: r.Answered,
		Lost: append([]string{}, r.Lost...), Missed: append([]string{}, r.Missed...), Nodes: []drillNodeJSON{},
	}
	for _, n := range r.Nodes {
		out.Nodes = append(out.Nodes, drillNodeJSON{
			Name: n.Name, WithoutAcceptance: secondsJSON(n.WithoutAcceptance), Answered: n.Answered, Error: orNull(n.Error),
		})
	}
	return out
}

// secondsJSON is null for what didn't happen.
func secondsJSON(d *durationpb.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := d.AsDuration().Round(time.Millisecond).Seconds()
	return &s
}
