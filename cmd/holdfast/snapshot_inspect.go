package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/node"
	pb "holdfast/proto/holdfast/v1"
)

type snapshotJSON struct {
	Version   string       `json:"version"`
	State     uint32       `json:"stateVersion"`
	ClusterID string       `json:"clusterId"`
	Index     uint64       `json:"index"`
	Term      uint64       `json:"term"`
	SavedAt   *string      `json:"savedAt"`
	Node      string       `json:"node"`
	Stale     bool         `json:"stale"`
	Size      uint64       `json:"size"`
	Pending   uint64       `json:"pending"`
	Held      uint64       `json:"held"`
	Frozen    uint64       `json:"frozen"`
	Delivered uint64       `json:"delivered"`
	Failed    uint64       `json:"failed"`
	InDoubt   uint64       `json:"inDoubt"`
	Digests   []digestJSON `json:"digests"`
}

func (a *app) snapshotInspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Check a snapshot, and show what it is of",
		Long: `Read a snapshot to its end, check every checksum in it, and show what it is of. It
asks no node. A file that is damaged, cut off or something else is said to be so,
with exit status 1.`,
		Example: `  holdfast snapshot inspect /var/backups/holdfast/2026-11-27.snapshot`,
		Args:    oneFile(),
		RunE: func(_ *cobra.Command, args []string) error {
			header, size, err := inspectFile(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.writeJSON(toSnapshotJSON(header, size))
			}
			return a.showSnapshot(args[0], header, size)
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func inspectFile(path string) (*pb.SnapshotHeader, uint64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	header, err := node.CheckSnapshot(file)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return header, uint64(info.Size()), nil
}

func toSnapshotJSON(h *pb.SnapshotHeader, size uint64) snapshotJSON {
	out := snapshotJSON{
		Version: h.Program, State: h.Version, ClusterID: h.ClusterId, Index: h.Index, Term: h.Term,
		SavedAt: timeJSON(timestamppb.New(savedAt(h))), Node: h.Node, Stale: h.Stale, Size: size,
		Pending: h.Counts.GetPending(), Held: h.Counts.GetHeld(), Frozen: h.Counts.GetFrozen(),
		Delivered: h.Counts.GetDelivered(), Failed: failedIn(h.Counts), InDoubt: h.Counts.GetInDoubt(),
		Digests: []digestJSON{},
	}
	for _, d := range h.Digests {
		out.Digests = append(out.Digests, digestJSON{Family: d.Family, Rows: d.Rows, Digest: fmt.Sprintf("%016x", d.Sum)})
	}
	return out
}

// failedIn has the frozen among them, as everywhere.
func failedIn(c *pb.CounterRecord) uint64 { return c.GetEnded() + c.GetFrozen() }

func (a *app) showSnapshot(path string, h *pb.SnapshotHeader, size uint64) error {
	stale := ""
	if h.Stale {
		stale = " (stale: it had no quorum, others may have been ahead)"
	}
	fmt.Fprintf(a.out, "%s is whole: %s, every checksum is right\n\n", path, mebibytes(size))
	t := newTable(a.out)
	t.row("cluster", h.ClusterId)
	t.row("index", fmt.Sprintf("%d, term %d", h.Index, h.Term))
	t.row("saved", a.when(timestamppb.New(savedAt(h))))
	t.row("by node", h.Node+stale)
	t.row("version", fmt.Sprintf("%s, state %d", dash(h.Program), h.Version))
	c := h.Counts
	t.row("recipients", fmt.Sprintf("%d pending, %d held, %d frozen, %d in doubt; %d delivered, %d failed",
		c.GetPending(), c.GetHeld(), c.GetFrozen(), c.GetInDoubt(), c.GetDelivered(), failedIn(c)))
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	families := newTable(a.out)
	families.row("FAMILY", "ROWS", "DIGEST")
	for _, d := range h.Digests {
		families.row(d.Family, d.Rows, fmt.Sprintf("%016x", d.Sum))
	}
	return families.flush()
}
