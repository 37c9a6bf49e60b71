package main

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Exit statuses.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitNoAnswer = 4 // or no quorum
)

// usageError is a command line that can't be carried out as it is.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// noAnswerError is a node or server that can't be reached.
type noAnswerError struct{ text string }

func (e *noAnswerError) Error() string { return e.text }

func exitStatus(err error) int {
	if err == nil {
		return exitDone
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*noAnswerError](err); ok {
		return exitNoAnswer
	}
	switch status.Code(err) {
	case codes.InvalidArgument:
		return exitUsage
	case codes.NotFound:
		return exitNotFound
	case codes.Unavailable, codes.DeadlineExceeded:
		return exitNoAnswer
	}
	return exitFailed
}

// oneLine is an error as the user reads it: a status without its code.
func oneLine(err error) string {
	text := err.Error()
	if s, ok := errors.AsType[statusError](err); ok {
		text = strings.ReplaceAll(text, s.Error(), s.GRPCStatus().Message()+inLog(s.GRPCStatus()))
	}
	return strings.Join(strings.Fields(text), " ")
}

// inLog says under which request the node's log has more, where what failed is the
// node's and not the caller's to mend.
func inLog(s *status.Status) string {
	switch s.Code() {
	case codes.Internal, codes.Unknown, codes.DataLoss:
	default:
		return ""
	}
	for _, detail := range s.Details() {
		if request, ok := detail.(*errdetails.RequestInfo); ok {
			return fmt.Sprintf(" (the node's log has it as request=%s)", request.RequestId)
		}
	}
	return ""
}

// statusError is an error that came over gRPC.
type statusError interface {
	error
	GRPCStatus() *status.Status
}
