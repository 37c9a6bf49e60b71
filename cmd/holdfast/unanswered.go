package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// unanswered is the error of a call whose node didn't come to answer: it died, or took
// too long. What the call was to change may be in effect, and where doing it twice does
// something else, the user has to look first. What a node says itself has the id of the
// request, and stays as it is.
func unanswered(method string, req any, err error) error {
	s := status.Convert(err)
	if s.Code() != codes.Unavailable && s.Code() != codes.DeadlineExceeded || isOfNode(s) || !changes(method, req) {
		return err
	}
	why, then := s.Message(), "repeating it is safe"
	if s.Code() == codes.DeadlineExceeded {
		why = "it took too long"
	}
	if look := lookFirst(req); look != "" {
		then = "look first with " + look
	}
	return status.Error(s.Code(), fmt.Sprintf("the node stopped answering (%s); the change may be in effect; %s", why, then))
}

// isOfNode: a node answered, with its own error.
func isOfNode(s *status.Status) bool {
	for _, detail := range s.Details() {
		if _, ok := detail.(*errdetails.RequestInfo); ok {
			return true
		}
	}
	return false
}

// changes reports whether a call is more than reading.
func changes(method string, req any) bool {
	switch r := req.(type) {
	case *pb.OperateQueuedRequest:
		if r.DryRun {
			return false
		}
	case *pb.ApplyConfigurationRequest:
		if r.GetOptions().GetDryRun() {
			return false
		}
	case *pb.TestDestinationRequest: // has steps to show how far it came
		return false
	}
	return !pb.ReadsOnly(method)
}

// lookFirst is what shows whether a change is in effect, and what then, where repeating
// it does something else; "" where it doesn't.
func lookFirst(req any) string {
	switch r := req.(type) {
	case *pb.StartBulkRequest:
		return "`holdfast queue operations`: if it began it is there, and a second one would hit further messages"
	case *pb.CreateTokenRequest:
		return fmt.Sprintf("`holdfast token list`: if %s is there its secret is lost, revoke it and create it again", r.Name)
	case *pb.CreateAccountRequest:
		return fmt.Sprintf("`holdfast account list`: if %s is there, `holdfast account passwd %s` sets its password", r.Name, r.Name)
	case *pb.SetDestinationRequest:
		if r.Undo {
			return fmt.Sprintf("`holdfast destination show %s`: a second --undo takes the first one back", r.Name)
		}
	case *pb.TransferLeadershipRequest:
		if r.Name == "" {
			return "`holdfast status`: a second transfer moves the leadership on from who leads now"
		}
	case *pb.RunDrillRequest:
		return "`holdfast status`: a second drill would be another fault"
	}
	return ""
}

// tellUnanswered is unanswered for streams.
func tellUnanswered(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, unanswered(method, nil, err)
	}
	return &toldStream{ClientStream: stream, method: method}, nil
}

type toldStream struct {
	grpc.ClientStream
	method string
	req    any // the first
}

// SendMsg keeps the request.
func (s *toldStream) SendMsg(m any) error {
	if s.req == nil {
		s.req = m
	}
	return s.ClientStream.SendMsg(m)
}

// RecvMsg says more of an end that isn't the node's.
func (s *toldStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return unanswered(s.method, s.req, err)
}
