package admin

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// VerifyRows has all nodes read their rows at the same time. It ends when the
// last of them has; a node that can't costs its error, not the others' work.
func (s *clusterService) VerifyRows(_ *pb.VerifyRowsRequest, stream grpc.ServerStreamingServer[pb.VerifyRowsResponse]) error {
	ctx := stream.Context()
	names := s.memberNames(ctx)
	s.Logger.Info("administration", "event", "VerifyRows", "nodes", names, "by", operatorOf(ctx), "request", requestOf(ctx).id)
	var sending sync.Mutex
	send := func(answer *pb.VerifyRowsResponse) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(answer)
	}
	failed := make([]error, len(names))
	var reading sync.WaitGroup
	for i, name := range names {
		reading.Go(func() { failed[i] = s.checkRows(ctx, name, send) })
	}
	reading.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRows returns an error only where nobody listens any more.
func (s *clusterService) checkRows(ctx context.Context, name string, send func(*pb.VerifyRowsResponse) error) error {
	err := s.Cluster.CheckRows(ctx, name, func(told *pb.CheckRowsResponse) error {
		return send(&pb.VerifyRowsResponse{Node: name, Rows: told.Rows, Total: told.Total, Done: told.Result != nil})
	})
	if err != nil && ctx.Err() == nil {
		return send(&pb.VerifyRowsResponse{Node: name, Error: status.Convert(err).Message()})
	}
	return ctx.Err()
}
