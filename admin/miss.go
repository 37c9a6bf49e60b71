package admin

import (
	"context"
	"sync/atomic"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// Misses are the options of a server whose calls look twice for what isn't there: this
// node may be behind, and "no such token" lets an operator leave while the token lives.
// They come behind those of an Access.
func Misses(cfg Config) []grpc.ServerOption {
	cfg.Cluster = shareBarrier(cfg.Cluster)
	m := misses{newNode(cfg)}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(m.call), grpc.ChainStreamInterceptor(m.stream)}
}

type misses struct{ *node }

func (m misses) call(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	answer, err := handle(ctx, req)
	err = m.again(ctx, info.FullMethod, req, err, func() (err error) {
		answer, err = handle(ctx, req)
		return err
	})
	return answer, err
}

func (m misses) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if info.IsClientStream {
		return handle(server, stream)
	}
	kept := &replayed{ServerStream: stream}
	err := handle(server, kept)
	if kept.sent.Load() {
		return err
	}
	return m.again(stream.Context(), info.FullMethod, kept.request, err, func() error {
		kept.replay = true
		return handle(server, kept)
	})
}

// again has a call that missed something made once more when this node has all that was
// committed before. Where it can't come to that, nobody knows: who wanted to change
// something is told that, who reads what this node has. A call that has proposed
// something isn't made again; what it missed it knows from the log.
func (m misses) again(ctx context.Context, method string, req any, missed error, call func() error) error {
	if !isMiss(missed) || requestOf(ctx).proposed.Load() {
		return missed
	}
	s := status.Convert(missed)
	if reads(method, req) {
		if m.barrier(ctx) == nil {
			return call()
		}
		stale := s.Proto()
		stale.Message += " (stale: this node may be behind)"
		return status.ErrorProto(stale)
	}
	if m.upToNow(ctx) == nil {
		return call()
	}
	return behind("by what this node has itself, " + s.Message())
}

// isMiss: what this node's state hasn't; notFound says so.
func isMiss(err error) bool {
	s := status.Convert(err)
	if s.Code() != codes.NotFound {
		return false
	}
	for _, detail := range s.Details() {
		if _, ok := detail.(*errdetails.ResourceInfo); ok {
			return true
		}
	}
	return false
}

// reads reports whether a call changes nothing.
func reads(method string, req any) bool {
	if dry, ok := req.(interface{ GetDryRun() bool }); ok && dry.GetDryRun() {
		return true
	}
	return pb.ReadsOnly(method)
}

// behind is why a change isn't begun on a node that can't come to what was committed.
func behind(more string) error {
	text := "no quorum, or this node is behind: nothing was changed; "
	if more != "" {
		text += more + "; "
	}
	return status.Error(codes.Unavailable, text+"`holdfast status` shows which nodes answer")
}

// replayed is a stream whose request can be read twice.
type replayed struct {
	grpc.ServerStream
	request proto.Message // nil before it came
	replay  bool
	sent    atomic.Bool
}

// RecvMsg reads the request, or what it was.
func (s *replayed) RecvMsg(to any) error {
	message, ok := to.(proto.Message)
	if ok && s.replay && s.request != nil {
		proto.Merge(message, s.request)
		return nil
	}
	err := s.ServerStream.RecvMsg(to)
	if ok && err == nil {
		s.request = proto.Clone(message)
	}
	return err
}

// SendMsg notes that an answer has begun.
func (s *replayed) SendMsg(m any) error {
	s.sent.Store(true)
	return s.ServerStream.SendMsg(m)
}
