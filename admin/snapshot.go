package admin

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// snapshotPiece is how much of a snapshot one response carries.
const snapshotPiece = 256 << 10

// snapshotStall is how long a client may take for a piece. While it does, files
// that the database has replaced stay on the disk.
const snapshotStall = time.Minute

// SaveSnapshot streams this node's own state, with a quorum or without.
func (s *clusterService) SaveSnapshot(_ *pb.SaveSnapshotRequest, stream grpc.ServerStreamingServer[pb.SaveSnapshotResponse]) error {
	current := s.upToDate(stream.Context())
	record, _ := s.State.Node(s.Node)
	saving, err := s.State.Save(&pb.SnapshotHeader{
		Program: record.GetVersion(), Node: s.Node, SavedAt: s.Now().UnixNano(), Stale: !current,
	})
	if errors.Is(err, fsm.ErrSaving) {
		return status.Errorf(codes.FailedPrecondition, "node %s is sending a snapshot already: wait until that is done, or ask another node", s.Node)
	}
	if err != nil {
		return readError(err, "the state")
	}
	by := operatorOf(stream.Context())
	s.Logger.Info("snapshot begins", "by", by, "index", saving.Header.Index, "bytes", saving.Size)
	err = sendSnapshot(saving, stream)
	s.Logger.Info("snapshot ends", "by", by, "index", saving.Header.Index, "error", err)
	return err
}

// upToDate waits until this node's state has what was committed before the call:
// a node keeps its lease while it is a little behind, and mail that another one
// answered 250 belongs into a backup that is begun after that. It reports false
// where there is no quorum to ask, or no answer.
func (n *node) upToDate(ctx context.Context) bool {
	if !n.Cluster.Leased() {
		return false
	}
	err := n.upToNow(ctx)
	if err != nil {
		n.Logger.Warn("snapshot: what the other nodes have taken may not be in it", "error", err)
	}
	return err == nil
}

// sendSnapshot gives up on a client that takes nothing any more. Only its return
// ends a Send that hangs: so the goroutine may outlast it, by that moment.
func sendSnapshot(saving *fsm.Saving, stream grpc.ServerStreamingServer[pb.SaveSnapshotResponse]) error {
	sent, done := make(chan struct{}), make(chan error, 1)
	ctx := stream.Context()
	go func() {
		err := sendPieces(saving, stream, func() {
			select {
			case sent <- struct{}{}:
			case <-ctx.Done():
			}
		})
		done <- errors.Join(err, saving.Close())
	}()
	stall := time.NewTimer(snapshotStall)
	defer stall.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-sent:
			stall.Reset(snapshotStall)
		case <-stall.C:
			return status.Errorf(codes.DeadlineExceeded, "the client took nothing for %s", snapshotStall)
		}
	}
}

func sendPieces(saving *fsm.Saving, stream grpc.ServerStreamingServer[pb.SaveSnapshotResponse], sent func()) error {
	buffer := make([]byte, snapshotPiece)
	for {
		n, err := io.ReadFull(saving, buffer)
		if n > 0 {
			if err := stream.Send(&pb.SaveSnapshotResponse{Data: buffer[:n], Total: uint64(saving.Size)}); err != nil {
				return err
			}
			sent()
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return readError(err, "the snapshot")
		}
	}
}
