package admin

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

const (
	// tailRows is how many rows are read for one response.
	tailRows = 200
	// tailPause is the longest time without a response: whoever hears nothing for
	// much longer has lost the node.
	tailPause = 5 * time.Second
)

// TailLog reads on whenever the node's state has come further. It reads what the
// node has applied, so a change of leader is nothing to it.
func (s *logService) TailLog(req *pb.TailLogRequest, stream grpc.ServerStreamingServer[pb.TailLogResponse]) error {
	f, err := toFilter(req.Filter)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	f.Domains = callerOf(ctx).domains
	at, err := s.tailFrom(ctx, req)
	if err != nil {
		return err
	}
	var sent time.Time
	for {
		response, next, err := s.tailed(ctx, f, at)
		if err != nil {
			return err
		}
		if len(response.Rows) > 0 || time.Since(sent) >= tailPause {
			if err := stream.Send(response); err != nil {
				return err
			}
			sent = time.Now()
		}
		at = next
		if err := s.waitApplied(ctx, at.Index); err != nil {
			return err
		}
	}
}

// tailFrom is the position of the first row that is asked for.
func (s *logService) tailFrom(ctx context.Context, req *pb.TailLogRequest) (fsm.Position, error) {
	if req.Index != 0 && req.Since != nil {
		return fsm.Position{}, invalid("since", "give an index or a time, not both")
	}
	if req.Index != 0 {
		return fsm.Position{Index: req.Index, Row: req.Row}, nil
	}
	w, err := s.window(ctx)
	if err != nil {
		return fsm.Position{}, err
	}
	defer w.release()
	if req.Since == nil {
		return fsm.Position{Index: w.Index() + 1}, nil
	}
	index, err := w.IndexAt(req.Since.AsTime().Truncate(time.Second))
	if errors.Is(err, fsm.ErrForgotten) {
		return fsm.Position{Index: w.Forgotten()}, nil
	}
	if err != nil {
		return fsm.Position{}, readError(err, "the log")
	}
	return fsm.Position{Index: index + 1}, nil
}

// tailed reads one response, which ends early where it gets large.
func (s *logService) tailed(ctx context.Context, f fsm.Filter, at fsm.Position) (*pb.TailLogResponse, fsm.Position, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, at, err
	}
	defer w.release()
	rows, next, err := w.Follow(at, tailRows)
	if errors.Is(err, fsm.ErrForgotten) {
		return nil, at, w.pastError(err)
	}
	if err != nil {
		return nil, at, readError(err, "the log")
	}
	response := &pb.TailLogResponse{Stale: !w.quorum}
	bytes := 0
	for _, row := range rows {
		if bytes > maxPageBytes {
			next = row.Position
			break
		}
		concerned, err := w.Concerns(f, row)
		if err != nil {
			return nil, at, readError(err, row.ID.String())
		}
		if !concerned {
			continue
		}
		addresses, err := w.rowAddresses(row.ID, row.HistoryRow)
		if err != nil {
			return nil, at, err
		}
		if len(addresses) == 0 && w.caller.limited() {
			continue // of others
		}
		out := &pb.TailedRow{
			MessageId: row.ID.String(), From: row.Message.Envelope.GetFrom(),
			Entry: historyEntry(row.HistoryRow, addresses),
		}
		response.Rows = append(response.Rows, out)
		bytes += proto.Size(out)
	}
	response.NextIndex, response.NextRow = next.Index, next.Row
	return response, next, nil
}

// waitApplied returns once the node has applied an index, or after a while.
func (s *logService) waitApplied(ctx context.Context, index uint64) error {
	wait, cancel := context.WithTimeout(ctx, tailPause)
	defer cancel()
	err := s.State.WaitApplied(wait, index)
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case err == nil, errors.Is(err, context.DeadlineExceeded):
		return nil
	}
	return status.Error(codes.Unavailable, "the node is stopping; ask another one")
}
