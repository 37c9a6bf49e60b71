package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"holdfast/password"
	pb "holdfast/proto/holdfast/v1"
)

const behind = "holdfast: done, but the change is in the log (index "

// What is shown only once is shown, with a warning, though a node is behind.
func TestSecretsThoughANodeIsBehind(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	w.FallBehind(errors.New("node b is behind"))
	secretOf := func(line string) string {
		t.Helper()
		r := sh.run(t, strings.Fields(line)...)
		if r.status != exitDone || !strings.HasPrefix(r.err, behind) || !strings.Contains(r.err, "node b is behind; `holdfast status` shows") ||
			strings.Count(r.out, "\n") != 1 {
			t.Errorf("%s: %+v", line, r)
		}
		return strings.TrimSpace(r.out)
	}
	token := secretOf("token create --name ci --role viewer")
	viewer := shell{env: map[string]string{"HOLDFAST_ADDR": w.Socket, "HOLDFAST_TOKEN": token}}
	if r := viewer.run(t, "queue", "list"); r.status != exitDone {
		t.Errorf("with the token: %+v", r)
	}
	for _, line := range []string{"account add printer --generate", "account passwd printer --generate"} {
		given := secretOf(line)
		if record, _ := w.State.Account("printer"); !password.Matches(record.GetPasswordHash(), given) {
			t.Errorf("%s: %q isn't the password", line, given)
		}
	}
}

// Who undoes a change isn't told to do that twice.
func TestUndoThatIsNotEverywhere(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	if r := sh.run(t, "destination", "set", "one", "--host", "new.one.test:25"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	w.FallBehind(errors.New("node b is behind"))
	r := sh.run(t, "destination", "set", "one", "--undo")
	wantError(t, r, exitNoAnswer, "node b is behind; look first with `holdfast destination show one`: a second --undo takes the first one back")
	if strings.Contains(r.err, "safe") {
		t.Errorf("%+v", r)
	}
}

// An operation that the node asked doesn't know yet is followed: begun a second time it
// would hit others.
func TestOperationOfANodeThatIsBehind(t *testing.T) {
	w, _ := scene(t)
	token := shellFor(w).run(t, "token", "create", "--name", "root", "--role", "admin")
	w.LagBehind()
	address := w.ServeTCP(grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		answer, err := handle(ctx, req)
		if info.FullMethod == pb.QueueService_StartBulk_FullMethodName {
			w.CatchUp()
		}
		return answer, err
	}))
	sh := shell{env: map[string]string{"HOLDFAST_ADDR": address, "HOLDFAST_TOKEN": strings.TrimSpace(token.out)}}
	r := sh.run(t, "queue", "delete", "--all", "--limit", "2", "--yes")
	if r.status != exitDone || !strings.HasPrefix(r.out, "2 messages with 2 recipients deleted") ||
		!strings.HasPrefix(r.err, behind) || strings.Count(r.err, "\n") != 1 {
		t.Errorf("%+v", r)
	}
}
