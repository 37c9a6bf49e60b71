package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

type verifyJSON struct {
	Index      uint64           `json:"index"`
	Identical  bool             `json:"identical"`
	Nodes      []verifyNodeJSON `json:"nodes"`
	Mismatches []mismatchJSON   `json:"mismatches"`
}

type verifyNodeJSON struct {
	Name          string       `json:"name"`
	Error         *string      `json:"error"`
	Digests       []digestJSON `json:"digests"`
	RowsCheckedAt *string      `json:"rowsCheckedAt"`
	Unread        []string     `json:"unread"`
}

type digestJSON struct {
	Family string `json:"family"`
	Rows   uint64 `json:"rows"`
	Digest string `json:"digest"`
}

type mismatchJSON struct {
	Node   string `json:"node"`
	Family string `json:"family"`
	Text   string `json:"text"`
}

func (a *app) clusterVerifyCommand() *cobra.Command {
	var asJSON, deep bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare the state of all nodes",
		Long: `Mark an index in the log and compare what the state of every node came to there,
family by family. The exit status is 1 where two nodes differ or rows are damaged.
A node that does not answer is named; it is not compared, and the exit status says
nothing of it, but for --deep, which it makes 4: not all rows were read.

The digests that are compared are kept as the log is applied. What has changed on
one node's disk by itself shows only when rows are read, and compared with the
digests: every node reads up to 64 MiB of them now, the families with the fewest
rows first. With --deep it first reads all, bodies too, while mail goes on. Each
node does that slowly once a day by itself, and the leader verifies once an hour;
what was found then is shown here too.`,
		Example: `  holdfast cluster verify
  holdfast cluster verify --deep`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				var unread error
				if deep {
					unread = a.verifyRows(ctx, conn)
				}
				r, err := pb.NewClusterServiceClient(conn).VerifyState(ctx, &pb.VerifyStateRequest{})
				if err != nil {
					return err
				}
				if asJSON {
					err = a.writeJSON(toVerifyJSON(r))
				} else {
					err = a.showVerify(r)
				}
				if err != nil {
					return err
				}
				return withUnread(verdict(r), unread)
			})
		},
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "have every node read all its rows first")
	addJSON(cmd, &asJSON)
	return cmd
}

// withUnread adds what a node didn't read to the verdict, which alone decides on the
// exit status where it is an error: a node that is down doesn't hide that others differ.
func withUnread(found, unread error) error {
	if found == nil || unread == nil {
		return errors.Join(found, unread)
	}
	return fmt.Errorf("%w; %s", found, oneLine(unread))
}

// verdict is an error where states differ, or where none of several could be
// compared. Rows that a node found damaged by itself need no other to differ.
func verdict(r *pb.VerifyStateResponse) error {
	switch {
	case len(r.Mismatches) > 0:
	case len(r.Nodes) > 1 && len(answered(r)) < 2:
		return &noAnswerError{text: "fewer than two nodes answered, nothing was compared"}
	default:
		return nil
	}
	var all []string
	for _, m := range r.Mismatches {
		all = append(all, fmt.Sprintf("node %s in %s (%s)", m.Node, m.Family, m.Text))
	}
	return fmt.Errorf("the nodes' states differ: %s; keep their data folders, and replace the node that differs", strings.Join(all, ", "))
}

func answered(r *pb.VerifyStateResponse) []*pb.VerifyStateResponse_Node {
	return slices.DeleteFunc(slices.Clone(r.Nodes), func(n *pb.VerifyStateResponse_Node) bool { return n.Error != "" })
}

func toVerifyJSON(r *pb.VerifyStateResponse) verifyJSON {
	out := verifyJSON{Index: r.Index, Identical: verdict(r) == nil, Nodes: []verifyNodeJSON{}, Mismatches: []mismatchJSON{}}
	for _, n := range r.Nodes {
		node := verifyNodeJSON{Name: n.Name, Error: orNull(n.Error), Digests: []digestJSON{}, RowsCheckedAt: timeJSON(n.RowsCheckedAt), Unread: append([]string{}, n.Unread...)}
		for _, d := range n.Digests {
			node.Digests = append(node.Digests, digestJSON{Family: d.Family, Rows: d.Rows, Digest: fmt.Sprintf("%016x", d.Sum)})
		}
		out.Nodes = append(out.Nodes, node)
	}
	for _, m := range r.Mismatches {
		out.Mismatches = append(out.Mismatches, mismatchJSON{Node: m.Node, Family: m.Family, Text: m.Text})
	}
	return out
}

// showVerify has a row for each family and a column for each node.
func (a *app) showVerify(r *pb.VerifyStateResponse) error {
	t := newTable(a.out)
	header := []string{"FAMILY"}
	compared := answered(r)
	var families []string
	for _, n := range compared {
		header = append(header, "NODE "+n.Name)
		for _, d := range n.Digests {
			families = append(families, d.Family)
		}
	}
	t.header(header...)
	slices.Sort(families)
	for _, family := range slices.Compact(families) {
		row := []any{family}
		for _, n := range compared {
			row = append(row, digestCell(n, family))
		}
		verdict := cell{"identical", green}
		if slices.ContainsFunc(r.Mismatches, func(m *pb.StateMismatch) bool { return m.Family == family }) {
			verdict = cell{"DIFFERENT", red}
		}
		t.row(append(row, verdict)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, n := range r.Nodes {
		if n.Error != "" {
			fmt.Fprintf(a.out, "node %s was not compared: %s\n", n.Name, printable(n.Error))
		}
	}
	for _, n := range compared {
		if n.RowsCheckedAt != nil {
			fmt.Fprintf(a.out, "node %s last read all its rows %s\n", n.Name, a.when(n.RowsCheckedAt))
		}
		if len(n.Unread) > 0 {
			fmt.Fprintf(a.out, "node %s has too much in %s to read now: --deep does\n", n.Name, strings.Join(n.Unread, ", "))
		}
	}
	if verdict(r) == nil {
		fmt.Fprintf(a.out, "%s compared, identical at index %d\n", plural(uint64(len(compared)), "node"), r.Index)
	}
	return nil
}

func digestCell(n *pb.VerifyStateResponse_Node, family string) string {
	for _, d := range n.Digests {
		if d.Family == family {
			return fmt.Sprintf("%016x (%d)", d.Sum, d.Rows)
		}
	}
	return "-"
}
