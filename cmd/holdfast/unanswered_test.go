package main

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// Where a node dies between a change and its answer, the user hears that it may be in
// effect, and what to look at where doing it twice would do something else.
func TestNodeThatDiesWhileItAnswers(t *testing.T) {
	w, _ := scene(t)
	local := shellFor(w)
	token := strings.TrimSpace(local.run(t, "token", "create", "--name", "root", "--role", "admin").out)
	if r := local.run(t, "destination", "set", "one", "--host", "new.one.test:25"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	for _, c := range []struct{ line, want string }{
		{"queue delete --all --limit 1 --yes", "look first with `holdfast queue operations`: if it began"},
		{"destination set one --undo", "look first with `holdfast destination show one`"},
		{"token create --name ci --role viewer", "look first with `holdfast token list`: if ci is there"},
		{"account add printer --generate", "look first with `holdfast account list`: if printer is there"},
		{"destination set one --slots 3", "repeating it is safe"},
		{"apply -f testdata/apply_other.toml --yes", "repeating it is safe"},
	} {
		done := make(chan struct{})
		die := func(ctx context.Context) error {
			close(done)
			<-ctx.Done()
			return ctx.Err()
		}
		address := w.ServeTCP(
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
				if _, err := handle(ctx, req); err != nil {
					t.Errorf("%s: %v", c.line, err)
				}
				return nil, die(ctx)
			}),
			grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
				if err := handle(server, mute{stream}); err != nil {
					t.Errorf("%s: %v", c.line, err)
				}
				return die(stream.Context())
			}),
		)
		stopped, kill := make(chan struct{}), w.StopServing
		go func() {
			defer close(stopped)
			<-done
			kill()
		}()
		r := shell{env: map[string]string{"HOLDFAST_ADDR": address, "HOLDFAST_TOKEN": token}}.run(t, strings.Fields(c.line)...)
		<-stopped
		wantError(t, r, exitNoAnswer, c.want)
		if !strings.Contains(r.err, "the node stopped answering (") || !strings.Contains(r.err, "); the change may be in effect; ") || r.out != "" {
			t.Errorf("%s: %+v", c.line, r)
		}
	}
}

// mute swallows the answers of a stream.
type mute struct{ grpc.ServerStream }

func (mute) SendMsg(any) error { return nil }

// What a node says itself stays, and what only reads has changed nothing.
func TestErrorsThatStayAsTheyAre(t *testing.T) {
	start := pb.QueueService_StartBulk_FullMethodName
	late := status.Error(codes.DeadlineExceeded, "context deadline exceeded")
	if err := unanswered(start, &pb.StartBulkRequest{}, late); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "the change may be in effect; look first with") {
		t.Errorf("%v", err)
	}
	own, err := status.New(codes.Unavailable, "no quorum: nothing was changed").WithDetails(&errdetails.RequestInfo{RequestId: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]error{
		"the node's own": unanswered(start, &pb.StartBulkRequest{}, own.Err()),
		"a reading call": unanswered(pb.QueueService_ListQueue_FullMethodName, &pb.ListQueueRequest{}, late),
		"a dry run":      unanswered(pb.QueueService_OperateQueued_FullMethodName, &pb.OperateQueuedRequest{DryRun: true}, late),
		"a refusal":      unanswered(start, &pb.StartBulkRequest{}, status.Error(codes.InvalidArgument, "no filter")),
	} {
		if strings.Contains(got.Error(), "stopped answering") {
			t.Errorf("%s: %v", what, got)
		}
	}
	if err := unanswered(start, nil, nil); err != nil {
		t.Error(err)
	}
}
