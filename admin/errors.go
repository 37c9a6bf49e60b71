package admin

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"holdfast/cluster"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// resultCodes says which gRPC code each result of an event becomes.
var resultCodes = map[pb.EventResult_Code]codes.Code{
	pb.EventResult_CODE_OK:         codes.OK,
	pb.EventResult_CODE_STALE:      codes.Aborted,
	pb.EventResult_CODE_NOT_FOUND:  codes.NotFound,
	pb.EventResult_CODE_IN_USE:     codes.FailedPrecondition,
	pb.EventResult_CODE_INCOMPLETE: codes.DataLoss,
	pb.EventResult_CODE_UNROUTABLE: codes.FailedPrecondition,
	pb.EventResult_CODE_NOT_ACTIVE: codes.Unavailable,
	pb.EventResult_CODE_ABORTED:    codes.Aborted,
	pb.EventResult_CODE_INVALID:    codes.InvalidArgument,
}

// resultError is what applying an event came to, nil for CODE_OK.
func resultError(result *pb.EventResult, subject string) error {
	code, known := resultCodes[result.GetCode()]
	if !known {
		code = codes.Internal
	}
	if text := result.GetText(); text != "" {
		return status.Error(code, text)
	}
	return status.Error(code, fmt.Sprintf("%s: %s", subject, result.GetCode()))
}

// proposeError is why an event's outcome isn't known.
func proposeError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, fsm.ErrVersion):
		return status.Error(codes.FailedPrecondition, fmt.Sprintf("nothing was changed: %v", err))
	case errors.Is(err, cluster.ErrTooLarge):
		return status.Error(codes.InvalidArgument, fmt.Sprintf("nothing was changed: %v", err))
	case errors.Is(err, cluster.ErrInvalid):
		return status.Error(codes.InvalidArgument, "nothing was changed: the request has text that isn't UTF-8")
	case errors.Is(err, cluster.ErrNoQuorum):
		// Whatever ended the wait, the event never went into the log.
		return status.Error(codes.Unavailable, "no quorum: nothing was changed; `holdfast status` shows which nodes answer")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "canceled; the change may still come into effect")
	case errors.Is(err, context.DeadlineExceeded):
		return &unconfirmedError{text: "no quorum answered in time; the change may still come into effect"}
	}
	return &unconfirmedError{text: fmt.Sprintf("no quorum: %v", err)}
}

// unconfirmedError is a change that may be in effect, or is and not on every node yet.
type unconfirmedError struct {
	text string
	look string // what shows whether it is, where repeating it isn't safe; see lookFirst
}

func (e *unconfirmedError) Error() string {
	if e.look != "" {
		return e.text + "; look first with " + e.look
	}
	return e.text + "; repeating it is safe"
}

// GRPCStatus is the error as callers get it.
func (e *unconfirmedError) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, e.Error())
}

// lookFirst is for a change that does something else when it is repeated: who doesn't
// know whether it is in effect is told what shows it, and what then.
func lookFirst(err error, with string) error {
	if e, ok := errors.AsType[*unconfirmedError](err); ok {
		return &unconfirmedError{text: e.text, look: with}
	}
	return err
}

// unconfirmed is what a caller is told beside its answer where an error would lose
// that answer: why a change that is in the log isn't in effect everywhere yet, "" where
// it is.
func unconfirmed(err error) string {
	if e, ok := errors.AsType[*unconfirmedError](err); ok {
		return e.text
	}
	return ""
}

func notEverywhere(index uint64, err error) error {
	return &unconfirmedError{text: fmt.Sprintf("the change is in the log (index %d), but not every node has confirmed it: %v", index, err)}
}

func notHere(index uint64, err error) error {
	return &unconfirmedError{text: fmt.Sprintf("the change is in the log (index %d), but this node hasn't come to it yet: %v", index, err)}
}

// readError is a failure to read this node's own state.
func readError(err error, what string) error {
	switch {
	case errors.Is(err, fsm.ErrNotFound):
		return notFound("message", what, fmt.Sprintf("no message %s", what))
	case errors.Is(err, fsm.ErrClosed):
		return status.Error(codes.Unavailable, "the node is stopping; ask another one")
	}
	return status.Error(codes.Internal, fmt.Sprintf("read %s: %v", what, err))
}

func notFound(kind, name, text string) error {
	return withDetail(codes.NotFound, text, &errdetails.ResourceInfo{ResourceType: kind, ResourceName: name})
}

func invalid(field, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return withDetail(codes.InvalidArgument, text, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: text}},
	})
}

func precondition(kind, subject, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return withDetail(codes.FailedPrecondition, text, &errdetails.PreconditionFailure{
		Violations: []*errdetails.PreconditionFailure_Violation{{Type: kind, Subject: subject, Description: text}},
	})
}

func withDetail(code codes.Code, text string, detail protoadapt.MessageV1) error {
	s := status.New(code, text)
	if detailed, err := s.WithDetails(detail); err == nil {
		return detailed.Err()
	}
	return s.Err()
}
