package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"holdfast/cluster"
	"holdfast/password"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// A secret is in one answer and nowhere else: it comes though another node is behind.
func TestSecretsOfAChangeThatIsNotEverywhereYet(t *testing.T) {
	w := admintest.Start(t)
	c := dial(t, w)
	access := pb.NewAccessServiceClient(c.conn)
	w.FallBehind(errors.New("node b is behind"))
	made, err := access.CreateToken(t.Context(), &pb.CreateTokenRequest{Name: "ci", Role: pb.Role_ROLE_VIEWER})
	if err != nil {
		t.Fatal(err)
	}
	if made.Token.CreatedAt == nil || !tells(made.Unconfirmed, "node b is behind") {
		t.Errorf("%v", made)
	}
	viewer := credential{token: made.Secret}
	if _, err := c.ListQueue(viewer.context(t.Context()), &pb.ListQueueRequest{}); err != nil {
		t.Errorf("with the secret: %v", err)
	}
	added, err := access.CreateAccount(t.Context(), &pb.CreateAccountRequest{Name: "app", Password: "correct horse"})
	if err != nil || !tells(added.Unconfirmed, "node b is behind") {
		t.Errorf("%v, %v", added, err)
	}
	changed, err := access.ChangePassword(t.Context(), &pb.ChangePasswordRequest{Name: "app", Password: "battery staple"})
	if err != nil || !tells(changed.Unconfirmed, "node b is behind") {
		t.Errorf("%v, %v", changed, err)
	}
	if record, _ := w.State.Account("app"); !password.Matches(record.GetPasswordHash(), "battery staple") {
		t.Error("the password isn't the latest")
	}
	w.FallBehind(nil)
	if made, err := access.CreateToken(t.Context(), &pb.CreateTokenRequest{Name: "cd", Role: pb.Role_ROLE_VIEWER}); err != nil || made.Unconfirmed != "" {
		t.Errorf("where all have it: %v, %v", made, err)
	}
}

// tells: the change is in the log, what keeps it from being everywhere, and no advice
// to repeat it.
func tells(late, why string) bool {
	return strings.HasPrefix(late, "the change is in the log (index ") && strings.Contains(late, why) && !strings.Contains(late, "repeat")
}

// The node that was asked may be the one that is behind.
func TestAnswersOfANodeThatIsBehind(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	for range 3 {
		w.Accept(time.Hour, "s@x.test", "r@one.test")
	}
	root, err := pb.NewAccessServiceClient(dial(t, w).conn).CreateToken(t.Context(), &pb.CreateTokenRequest{Name: "root", Role: pb.Role_ROLE_ADMIN})
	if err != nil {
		t.Fatal(err)
	}
	w.LagBehind()
	c := credential{conn: connect(t, w.ServeTCP(), insecure.NewCredentials()), token: root.Secret}
	access, queue, ctx := pb.NewAccessServiceClient(c.conn), pb.NewQueueServiceClient(c.conn), c.context(t.Context())
	const why = "this node hasn't come to it yet"
	made, err := access.CreateToken(ctx, &pb.CreateTokenRequest{Name: "ci", Role: pb.Role_ROLE_VIEWER})
	if err != nil {
		t.Fatal(err)
	}
	if made.Token.Name != "ci" || made.Token.Role != pb.Role_ROLE_VIEWER || !tells(made.Unconfirmed, why) {
		t.Errorf("%v", made)
	}
	added, err := access.CreateAccount(ctx, &pb.CreateAccountRequest{Name: "App", Password: "correct horse"})
	if err != nil || added.Account.Name != "app" || !tells(added.Unconfirmed, why) {
		t.Errorf("%v, %v", added, err)
	}
	started, err := queue.StartBulk(ctx, &pb.StartBulkRequest{Operation: &pb.QueueOperation{Kind: remove}, All: true, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if started.BulkId == "" || !tells(started.Unconfirmed, why) {
		t.Errorf("%v", started)
	}
	follow := func(patience time.Duration) (last *pb.Bulk, err error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		stream, err := queue.WatchBulk(ctx, &pb.WatchBulkRequest{BulkId: started.BulkId, Index: started.Index})
		for err == nil {
			var r *pb.WatchBulkResponse
			if r, err = stream.Recv(); err == nil {
				last = r.Bulk
			}
		}
		return last, err
	}
	if bulk, err := follow(50 * time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("an operation that the node doesn't know yet isn't waited for: %v, %v", bulk, err)
	}
	w.CatchUp()
	if bulk, err := follow(time.Minute); !errors.Is(err, io.EOF) || bulk.Messages != 2 || bulk.FinishedAt == nil {
		t.Errorf("%v, %v", bulk, err)
	}
	viewer := credential{token: made.Secret}
	if _, err := queue.ListQueue(viewer.context(t.Context()), &pb.ListQueueRequest{}); err != nil {
		t.Errorf("with the secret: %v", err)
	}
}

// What is said to be in the log is all of what was asked for, however many events it is.
func TestOperationByIDAtANodeThatIsBehind(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	to := make([]string, 501)
	for i := range to {
		to[i] = fmt.Sprintf("r%d@one.test", i)
	}
	id := w.Accept(time.Hour, "s@x.test", to...)
	root, err := pb.NewAccessServiceClient(dial(t, w).conn).CreateToken(t.Context(), &pb.CreateTokenRequest{Name: "root", Role: pb.Role_ROLE_ADMIN})
	if err != nil {
		t.Fatal(err)
	}
	w.LagBehind()
	c := credential{conn: connect(t, w.ServeTCP(), insecure.NewCredentials()), token: root.Secret}
	_, err = pb.NewQueueServiceClient(c.conn).OperateQueued(c.context(t.Context()), operate(remove, id.String()))
	wantCode(t, err, codes.Unavailable, "the change is in the log (index ")
	w.CatchUp()
	count, err := dial(t, w).CountQueue(t.Context(), &pb.CountQueueRequest{})
	if err != nil || len(count.Rows) != 1 || count.Rows[0].Count.Pending != 0 {
		t.Errorf("left in the queue: %v, %v", count, err)
	}
}

// Who can't know whether a change is in effect is told to repeat it only where that
// comes to the same.
func TestRepeatingIsSaidToBeSafeWhereItIs(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	access := pb.NewAccessServiceClient(c.conn)
	if _, err := access.CreateAccount(t.Context(), &pb.CreateAccountRequest{Name: "old", Password: "correct horse"}); err != nil {
		t.Fatal(err)
	}
	moved := &pb.SetDestinationRequest{Name: "one", Hosts: []*pb.DestinationHost{{Address: "new.one.test:25"}}}
	if _, err := c.SetDestination(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	undo := func(ctx context.Context) error {
		_, err := c.SetDestination(ctx, &pb.SetDestinationRequest{Name: "one", Undo: true})
		return err
	}
	w.FallBehind(errors.New("node b is behind"))
	wantLook(t, "undone, but not everywhere", undo(t.Context()), "`holdfast destination show one`")
	if one, _ := view(t, w).Destination("one"); one.Config.Hosts[0].Address != "mail.one.test:25" {
		t.Errorf("undone: %v", one.Config.Hosts)
	}
	_, err := c.SetDestination(t.Context(), moved)
	wantCode(t, err, codes.Unavailable, "node b is behind; repeating it is safe")

	for _, cause := range []error{context.DeadlineExceeded, cluster.ErrIncarnationEnded} {
		w.LoseQuorum(fmt.Errorf("%w: %w", cluster.ErrUnknownOutcome, cause))
		for what, call := range map[string]struct {
			call func(ctx context.Context) error
			look string // "" where repeating it is safe
		}{
			"undo": {undo, "`holdfast destination show one`"},
			"token create": {func(ctx context.Context) error {
				_, err := access.CreateToken(ctx, &pb.CreateTokenRequest{Name: "ci", Role: pb.Role_ROLE_VIEWER})
				return err
			}, "`holdfast token list`: if ci is there"},
			"account add": {func(ctx context.Context) error {
				_, err := access.CreateAccount(ctx, &pb.CreateAccountRequest{Name: "app", Password: "correct horse"})
				return err
			}, "`holdfast account list`: if app is there, `holdfast account passwd app`"},
			"account passwd": {func(ctx context.Context) error {
				_, err := access.ChangePassword(ctx, &pb.ChangePasswordRequest{Name: "old", Password: "battery staple"})
				return err
			}, ""},
			"delete": {func(ctx context.Context) error {
				_, err := c.StartBulk(ctx, &pb.StartBulkRequest{Operation: &pb.QueueOperation{Kind: remove}, All: true, Limit: 100})
				return err
			}, "`holdfast queue operations`: if it began it is 01"},
			"other hosts": {func(ctx context.Context) error {
				_, err := c.SetDestination(ctx, moved)
				return err
			}, ""},
		} {
			wantLook(t, what, call.call(t.Context()), call.look)
		}
	}
}

// wantLook wants an error that says what to look at first, or that repeating it is safe.
func wantLook(t *testing.T, what string, err error, look string) {
	t.Helper()
	text := status.Convert(err).Message()
	says := strings.HasSuffix(text, "; repeating it is safe")
	if look != "" {
		says = strings.Contains(text, "; look first with "+look) && !strings.Contains(text, "safe")
	}
	if status.Code(err) != codes.Unavailable || !says {
		t.Errorf("%s: %v, want what to look at: %q", what, err, look)
	}
}
