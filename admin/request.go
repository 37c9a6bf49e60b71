package admin

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/oklog/ulid/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// RequestIDKey is the metadata that names a call. A caller may choose the id; who
// doesn't gets one. It comes back in the header, and with an error as
// google.rpc.RequestInfo; in the node's log it is the field "request" of what the
// call did.
const RequestIDKey = "x-request-id"

// maxRequestID is the longest id that is taken from a caller.
const maxRequestID = 64

type requestContext struct{}

// request is a call as its end is logged. Who made it is known once Access, which
// comes behind, has let it in.
type request struct {
	id, by   string
	proposed atomic.Bool // something, whatever it came to
}

// requestOf is the call that a context belongs to, one without an id outside of any.
func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestContext{}).(*request); ok {
		return r
	}
	return &request{}
}

// RequestIDs are the options of a server whose administrative calls have ids.
func RequestIDs(logger *slog.Logger) []grpc.ServerOption {
	r := requests{logger}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(r.call), grpc.ChainStreamInterceptor(r.stream)}
}

type requests struct{ logger *slog.Logger }

func (r requests) call(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if isPeerCall(info.FullMethod) {
		return handle(ctx, req)
	}
	made := &request{id: requestID(ctx), by: nobody.name}
	if err := grpc.SetHeader(ctx, metadata.Pairs(RequestIDKey, made.id)); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	answer, err := handle(context.WithValue(ctx, requestContext{}, made), req)
	return answer, r.ended(ctx, info.FullMethod, made, err)
}

func (r requests) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if isPeerCall(info.FullMethod) {
		return handle(server, stream)
	}
	ctx := stream.Context()
	made := &request{id: requestID(ctx), by: nobody.name}
	if err := stream.SetHeader(metadata.Pairs(RequestIDKey, made.id)); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	err := handle(server, namedStream{stream, context.WithValue(ctx, requestContext{}, made)})
	return r.ended(ctx, info.FullMethod, made, err)
}

// isPeerCall: nodes call each other all the time, and log for themselves.
func isPeerCall(method string) bool {
	return strings.HasPrefix(method, "/"+pb.PeerService_ServiceDesc.ServiceName+"/")
}

// ended logs a call that failed, unless the caller is to blame or went away, and
// adds the call's id to the error's details.
func (r requests) ended(ctx context.Context, method string, made *request, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err) // unless the time was over, one that nobody has named
	}
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.DataLoss, codes.Internal, codes.Unknown:
		if !wentAway(ctx, s) {
			r.logger.Warn("administration failed", "call", strings.TrimPrefix(method, "/"), "request", made.id,
				"by", made.by, "code", s.Code().String(), "error", s.Message())
		}
	}
	if detailed, failed := s.WithDetails(&errdetails.RequestInfo{RequestId: made.id}); failed == nil {
		return detailed.Err()
	}
	return err
}

// wentAway reports whether the caller ended the call. Where its connection is gone
// grpc may say so to whoever sends before the context is done.
func wentAway(ctx context.Context, s *status.Status) bool {
	return errors.Is(ctx.Err(), context.Canceled) || s.Code() == codes.Unavailable && s.Message() == "transport is closing"
}

type namedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is the stream's, with the call's id.
func (s namedStream) Context() context.Context { return s.ctx }

// requestID is the caller's, where that is one for a line of a log.
func requestID(ctx context.Context) string {
	if given := metadata.ValueFromIncomingContext(ctx, RequestIDKey); len(given) == 1 && isRequestID(given[0]) {
		return given[0]
	}
	return ulid.Make().String()
}

func isRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
