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

// mebibytes is how sizes are shown.
func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func savedAt(h *pb.SnapshotHeader) time.Time { return time.Unix(0, h.SavedAt).UTC() }
