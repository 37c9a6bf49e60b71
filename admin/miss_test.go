package admin_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
)

// received reads a stream of the server to its end.
func received[T any](stream grpc.ServerStreamingClient[T], err error) error {
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Without a quorum a node doesn't know what there is by now. Who wants to change
// something isn't told that there is nothing to change; who reads is told that it may be old.
func TestMissesWithoutAQuorum(t *testing.T) {
	w := admintest.StartImpatient(t, 20*time.Millisecond)
	w.Configure()
	c := dial(t, w)
	access := pb.NewAccessServiceClient(c.conn)
	w.LoseQuorum(admintest.ErrNoQuorum)
	const id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	byID := operate(hold, id)
	dry := operate(hold, id)
	dry.DryRun = true
	none := "none"
	for what, call := range map[string]struct {
		call  func(ctx context.Context) error
		reads bool
	}{
		"token revoke": {func(ctx context.Context) error {
			_, err := access.RevokeToken(ctx, &pb.RevokeTokenRequest{Token: "ci"})
			return err
		}, false},
		"account remove": {func(ctx context.Context) error {
			_, err := access.RemoveAccount(ctx, &pb.RemoveAccountRequest{Name: "app"})
			return err
		}, false},
		"operations stop": {func(ctx context.Context) error {
			_, err := c.StopBulk(ctx, &pb.StopBulkRequest{BulkId: id})
			return err
		}, false},
		"domain remove": {func(ctx context.Context) error {
			_, err := c.RemoveDomain(ctx, &pb.RemoveDomainRequest{Name: "none.test"})
			return err
		}, false},
		"domain set": {func(ctx context.Context) error {
			_, err := c.SetDomain(ctx, &pb.SetDomainRequest{Name: "one.test", Destination: &none})
			return err
		}, false},
		"queue hold": {func(ctx context.Context) error {
			_, err := c.OperateQueued(ctx, byID)
			return err
		}, false},
		"queue hold --dry-run": {func(ctx context.Context) error {
			_, err := c.OperateQueued(ctx, dry)
			return err
		}, true},
		"queue show": {func(ctx context.Context) error {
			_, err := c.GetQueued(ctx, &pb.GetQueuedRequest{Id: id})
			return err
		}, true},
		"log show": {func(ctx context.Context) error {
			_, err := c.GetLog(ctx, &pb.GetLogRequest{Id: id})
			return err
		}, true},
		"queue cat": {func(ctx context.Context) error {
			return received(c.ReadBody(ctx, &pb.ReadBodyRequest{Id: id}))
		}, true},
		"domain show": {func(ctx context.Context) error {
			_, err := c.GetDomain(ctx, &pb.GetDomainRequest{Name: "none.test"})
			return err
		}, true},
	} {
		err := call.call(t.Context())
		if call.reads {
			wantCode(t, err, codes.NotFound, " (stale: this node may be behind)")
		} else {
			wantCode(t, err, codes.Unavailable, "no quorum, or this node is behind: nothing was changed; by what this node has itself, no ")
		}
		if t.Failed() {
			t.Fatal(what)
		}
	}
}

// What another node has put into the log before a call is there for that call.
func TestMissesOfANodeThatIsBehind(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.RestUpkeep()
	c := dial(t, w)
	access := pb.NewAccessServiceClient(c.conn)
	bulk := relay.MessageID{1}
	for _, step := range []struct {
		what    string
		arrives func()
		call    func(ctx context.Context) error
	}{
		{"token revoke", func() {
			w.Fold(&pb.Event{Kind: &pb.Event_TokenSet{TokenSet: &pb.TokenSet{Token: &pb.TokenConfig{
				Id: "tokenoflate", Name: "ci", Role: pb.Role_ROLE_VIEWER, SecretSha256: make([]byte, 32),
			}}}}, nil)
		}, func(ctx context.Context) error {
			_, err := access.RevokeToken(ctx, &pb.RevokeTokenRequest{Token: "ci"})
			return err
		}},
		{"log show", func() { w.Accept(0, "s@x.test", "r@one.test") }, func(ctx context.Context) error {
			_, err := c.GetLog(ctx, &pb.GetLogRequest{Id: accepted(1)})
			return err
		}},
		{"queue cat", func() { w.Accept(0, "s@x.test", "r@one.test") }, func(ctx context.Context) error {
			return received(c.ReadBody(ctx, &pb.ReadBodyRequest{Id: accepted(2)}))
		}},
		{"queue hold", func() { w.Accept(0, "s@x.test", "r@one.test") }, func(ctx context.Context) error {
			_, err := c.OperateQueued(ctx, operate(hold, accepted(3)))
			return err
		}},
		{"operations stop", func() {
			w.Fold(&pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{
				BulkId: bulk[:], Operation: &pb.Operation{Kind: hold, By: "ann"},
			}}}, nil)
		}, func(ctx context.Context) error {
			_, err := c.StopBulk(ctx, &pb.StopBulkRequest{BulkId: bulk.String()})
			return err
		}},
	} {
		w.ArriveLate(step.arrives, nil)
		if err := step.call(t.Context()); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
	}
	_, err := access.RevokeToken(t.Context(), &pb.RevokeTokenRequest{Token: "ci"})
	wantCode(t, err, codes.NotFound, "no token ci")
}

// A call that has changed something isn't made again for what it misses then.
func TestMissBehindAChange(t *testing.T) {
	w := admintest.Start(t)
	access := pb.NewAccessServiceClient(dial(t, w).conn)
	w.Meanwhile(func() {
		for _, record := range view(t, w).Tokens() {
			w.Fold(&pb.Event{Kind: &pb.Event_TokenRevoked{TokenRevoked: &pb.TokenRevoked{Id: record.Config.Id, By: "ann"}}}, nil)
		}
	})
	_, err := access.CreateToken(t.Context(), &pb.CreateTokenRequest{Name: "ci", Role: pb.Role_ROLE_VIEWER})
	wantCode(t, err, codes.NotFound, "no token ci")
	if n := len(w.Proposed()); n != 1 {
		t.Errorf("%d events: it was made %d times", n, n)
	}
}

// accepted is the id of the nth message that a world accepts.
func accepted(n byte) string {
	return relay.MessageID(append(relay.LowestMessageID(admintest.Now)[:15:15], n)).String()
}

// A change that was refused because another one came first isn't in the log, and a node
// that doesn't come to the other one says nothing else.
func TestRefusedAtANodeThatIsBehind(t *testing.T) {
	w := admintest.StartImpatient(t, 20*time.Millisecond)
	w.Configure()
	w.RestUpkeep()
	c := dial(t, w)
	e := connected(t, w)
	started, err := c.StartBulk(t.Context(), &pb.StartBulkRequest{Operation: &pb.QueueOperation{Kind: hold}, All: true})
	if err != nil {
		t.Fatal(err)
	}
	file := strings.Replace(e.export(true), "slots = 20", "slots = 7", 1)
	w.Overtake()
	slots := uint32(5)
	_, set := c.SetDestination(t.Context(), &pb.SetDestinationRequest{Name: "one", Slots: &slots})
	_, stopped := c.StopBulk(t.Context(), &pb.StopBulkRequest{BulkId: started.BulkId})
	_, _, applied := e.apply(file, &pb.ApplyConfigurationRequest_Options{})
	for what, err := range map[string]error{"destination set": set, "operations stop": stopped, "apply": applied} {
		wantCode(t, err, codes.Unavailable, "nothing was changed: another change came first, and this node is behind")
		if err != nil && strings.Contains(err.Error(), "is in the log") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
