package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) snapshotCommand() *cobra.Command {
	snapshot := group("snapshot", "Back the cluster up, and restore it", "")
	snapshot.AddCommand(a.snapshotSaveCommand(), a.snapshotInspectCommand(), a.snapshotRestoreCommand())
	return snapshot
}

func oneFile() cobra.PositionalArgs { return oneArgument("file") }

// mebibytes is how sizes are shown; small ones are KiB, or a snapshot of a new
// cluster would look empty.
func mebibytes(n uint64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func savedAt(h *pb.SnapshotHeader) time.Time { return time.Unix(0, h.SavedAt).UTC() }
