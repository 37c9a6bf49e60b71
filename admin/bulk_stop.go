package admin

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// StopBulk is for whoever may begin such an operation, and sees this one. One that
// is stopped already stays as it is, so repeating the call is safe.
func (s *queueService) StopBulk(ctx context.Context, req *pb.StopBulkRequest) (*pb.StopBulkResponse, error) {
	id, err := relay.ParseMessageID(req.BulkId)
	if err != nil {
		return nil, invalid("bulk_id", "%q is no operation's id: `holdfast queue operations` shows them", req.BulkId)
	}
	reason := oneLine(req.Reason)
	if err := checkReason("reason", reason); err != nil {
		return nil, err
	}
	bulk, err := s.readBulk(ctx, id)
	if err != nil {
		return nil, err
	}
	if bulk.FinishedAt == nil {
		index, err := s.propose(ctx, &pb.Event{Kind: &pb.Event_BulkStopped{BulkStopped: &pb.BulkStopped{
			BulkId: id[:], Reason: reason,
		}}}, fmt.Sprintf("bulk %s", id))
		switch {
		case err == nil:
			err = s.applied(ctx, index)
		case index != 0 && status.Code(err) == codes.Aborted: // it ended before the event
			err = s.overtaken(ctx, index)
		}
		if err != nil {
			return nil, err
		}
		if bulk, err = s.readBulk(ctx, id); err != nil {
			return nil, err
		}
	}
	if !bulk.Stopped {
		return nil, precondition("ENDED", bulk.Id, "operation %s has ended already: `holdfast queue operations` shows what it has done", bulk.Id)
	}
	return &pb.StopBulkResponse{Bulk: bulk}, nil
}
