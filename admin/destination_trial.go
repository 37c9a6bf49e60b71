package admin

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Trial is a test delivery to a destination.
type Trial struct {
	Config     *pb.DestinationConfig // with the hosts to be tested
	From       string                // "" is the null sender
	Recipients []string
	Send       bool // a message, and not only the envelope
}

// mostTried bounds the recipients of a trial: it is looked at line by line.
const mostTried = 20

// TestDestination goes by the node's own state: it is for finding out, also
// without a quorum, and changes nothing.
func (s *destinationService) TestDestination(req *pb.TestDestinationRequest, stream pb.DestinationService_TestDestinationServer) error {
	trial, err := s.trial(stream.Context(), req)
	if err != nil {
		return err
	}
	if s.Trial == nil {
		return status.Error(codes.Unimplemented, "this node makes no test deliveries")
	}
	s.Logger.Info("test delivery", "destination", req.Name, "host", req.Host, "recipients", req.Recipients, "send", req.Send, "by", operatorOf(stream.Context()))
	return s.Trial(stream.Context(), trial, stream.Send)
}

func (s *destinationService) trial(ctx context.Context, req *pb.TestDestinationRequest) (Trial, error) {
	w, err := s.window(ctx)
	if err != nil {
		return Trial{}, err
	}
	defer w.release()
	record, ok := w.Destination(req.Name)
	if !ok {
		return Trial{}, noDestination(req.Name)
	}
	trial := Trial{Config: proto.CloneOf(record.Config), From: req.From, Recipients: req.Recipients, Send: req.Send}
	if req.Host != "" {
		if err := checkHost(req.Host); err != nil {
			return Trial{}, err
		}
		trial.Config.Hosts, trial.Config.Mx = []*pb.DestinationConfig_Host{{Address: req.Host, Weight: 1}}, ""
	}
	switch {
	case req.Send && len(req.Recipients) == 0:
		return Trial{}, invalid("send", "say to whom the test message goes with --to ADDRESS")
	case len(req.Recipients) > mostTried:
		return Trial{}, invalid("recipients", "%d recipients, %d at most", len(req.Recipients), mostTried)
	}
	for _, address := range append([]string{req.From}, req.Recipients...) {
		isNull := address == "" && req.From == ""
		if !isNull && (relay.DomainOf(address) == "" || strings.ContainsAny(address, "<>\r\n ")) {
			return Trial{}, invalid("recipients", "%q is not a mail address", address)
		}
	}
	return trial, nil
}
