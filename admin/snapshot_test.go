package admin_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"testing"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// saveSnapshot asks for a snapshot and returns the header of what comes.
func saveSnapshot(t *testing.T, c client) *pb.SnapshotHeader {
	t.Helper()
	stream, err := c.SaveSnapshot(t.Context(), &pb.SaveSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		file.Write(piece.Data)
	}
	header, err := fsm.UnpackSnapshot(fsm.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}, &file)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// Mail that another node answered 250 before the command is in the backup of a
// node that is behind. Without an answer to what was committed, or without a
// quorum, the node saves what it has, and says so.
func TestSnapshotHasWhatWasAnsweredBefore(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.Accept(0, "a@x.test", "r@one.test")
	c := dial(t, w)
	w.ArriveLate(func() { w.Accept(0, "b@x.test", "r@one.test") }, nil)
	if h := saveSnapshot(t, c); h.Counts.GetPending() != 2 || h.Stale {
		t.Errorf("%d recipients, want that of the mail that was on its way, too; stale: %t", h.Counts.GetPending(), h.Stale)
	}
	w.LoseQuorum(admintest.ErrNoQuorum)
	w.ArriveLate(func() { t.Error("a node without a quorum waits for others") }, nil)
	if h := saveSnapshot(t, c); h.Counts.GetPending() != 2 || !h.Stale {
		t.Errorf("without a quorum: %d recipients, stale: %t", h.Counts.GetPending(), h.Stale)
	}
}
