package admin

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

func (s *destinationService) SuspendDestination(ctx context.Context, req *pb.SuspendDestinationRequest) (*pb.SuspendDestinationResponse, error) {
	if len(req.Reason) > fsm.MaxReason {
		return nil, invalid("reason", "the reason has %d bytes, %d at most", len(req.Reason), fsm.MaxReason)
	}
	destination, err := s.switched(ctx, req.Name, &pb.Event{Kind: &pb.Event_DestinationSuspended{
		DestinationSuspended: &pb.DestinationSuspended{Name: req.Name, By: operatorOf(ctx), Reason: req.Reason},
	}})
	return &pb.SuspendDestinationResponse{Destination: destination}, err
}

func (s *destinationService) ResumeDestination(ctx context.Context, req *pb.ResumeDestinationRequest) (*pb.ResumeDestinationResponse, error) {
	destination, err := s.switched(ctx, req.Name, &pb.Event{Kind: &pb.Event_DestinationResumed{
		DestinationResumed: &pb.DestinationResumed{Name: req.Name, By: operatorOf(ctx)},
	}})
	return &pb.ResumeDestinationResponse{Destination: destination}, err
}

// switched proposes a suspension or its end, and returns once it is in effect on every
// leased node. One that changes nothing is no error: repeating it is safe. The change
// that made it so may not be everywhere yet either.
func (s *destinationService) switched(ctx context.Context, name string, event *pb.Event) (*pb.Destination, error) {
	index, err := s.propose(ctx, event, "destination "+name)
	if err != nil && (index == 0 || status.Code(err) != codes.Aborted) {
		return nil, err
	}
	if err := s.inEffect(ctx, index); err != nil {
		return nil, err
	}
	return s.show(ctx, name)
}
