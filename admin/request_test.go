package admin_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"holdfast/admin"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// requestInfo is the id in an error's details, "" where there is none.
func requestInfo(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.RequestInfo); ok {
			return request.RequestId
		}
	}
	return ""
}

func withRequestID(ctx context.Context, id string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, admin.RequestIDKey, id)
}

// A call's id is the caller's or a new one: in the header of the answer, in the
// details of an error, and in the log of what the call did.
func TestRequestIDs(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(0, "s@x.test", "r@one.test").String()
	c := dial(t, w)
	hold := &pb.OperateQueuedRequest{Operation: &pb.QueueOperation{Kind: pb.Operation_KIND_HOLD}, Ids: []string{id}}

	var header metadata.MD
	if _, err := c.OperateQueued(withRequestID(t.Context(), "ticket-4711"), hold, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if got := header.Get(admin.RequestIDKey); len(got) != 1 || got[0] != "ticket-4711" {
		t.Errorf("header %v", header)
	}
	if log := w.Log(); !strings.Contains(log, "msg=administration") || !strings.Contains(log, "request=ticket-4711") {
		t.Errorf("log %s", log)
	}

	for _, bad := range []string{"two words", strings.Repeat("x", 65)} {
		_, err := c.GetQueued(withRequestID(t.Context(), bad), &pb.GetQueuedRequest{Id: "no id"})
		if made := requestInfo(err); len(made) != 26 || status.Code(err) != codes.InvalidArgument {
			t.Errorf("request %q: %v with id %q, want one of the node's", bad, err, made)
		}
	}

	body, err := c.ReadBody(withRequestID(t.Context(), "reads-it"), &pb.ReadBodyRequest{Id: id, HeadersOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = body.Recv()
	}
	if log := w.Log(); !strings.Contains(log, `msg="message read"`) || !strings.Contains(log, "request=reads-it") {
		t.Errorf("log %s", log)
	}

	w.LoseQuorum(admintest.ErrNoQuorum)
	_, err = c.OperateQueued(withRequestID(t.Context(), "in-the-night"), &pb.OperateQueuedRequest{
		Operation: &pb.QueueOperation{Kind: pb.Operation_KIND_RELEASE}, Ids: []string{id},
	})
	if status.Code(err) != codes.Unavailable || requestInfo(err) != "in-the-night" {
		t.Errorf("%v, id %q", err, requestInfo(err))
	}
	if log := w.Log(); !strings.Contains(log, `msg="administration failed" call=holdfast.v1.QueueService/OperateQueued request=in-the-night by="local user`) {
		t.Errorf("log %s", log)
	}
}

// outOfTime ends every call as a handler does whose context is over.
type outOfTime struct {
	pb.UnimplementedQueueServiceServer
}

func (outOfTime) GetQueued(context.Context, *pb.GetQueuedRequest) (*pb.GetQueuedResponse, error) {
	return nil, fmt.Errorf("wait: %w", context.DeadlineExceeded)
}

func (outOfTime) WatchBulk(*pb.WatchBulkRequest, grpc.ServerStreamingServer[pb.WatchBulkResponse]) error {
	return context.DeadlineExceeded
}

// A call whose time is over says so, whoever of the two notices first.
func TestTimeOverIsNoUnknownError(t *testing.T) {
	server := grpc.NewServer(admin.RequestIDs(slog.New(slog.DiscardHandler))...)
	pb.RegisterQueueServiceServer(server, outOfTime{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	c := pb.NewQueueServiceClient(connect(t, listener.Addr().String(), insecure.NewCredentials()))
	_, err = c.GetQueued(t.Context(), &pb.GetQueuedRequest{})
	wantCode(t, err, codes.DeadlineExceeded, "wait: context deadline exceeded")
	stream, err := c.WatchBulk(t.Context(), &pb.WatchBulkRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	wantCode(t, err, codes.DeadlineExceeded, "context deadline exceeded")
	if requestInfo(err) == "" {
		t.Errorf("without an id: %v", err)
	}
}
