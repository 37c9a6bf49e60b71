package admin_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// No call, no event and no line of the log has a password; no answer has a hash.
func TestPasswordsStayWhereTheyAreSet(t *testing.T) {
	w := admintest.Start(t)
	access := pb.NewAccessServiceClient(dial(t, w).conn)
	const first, second = "correct horse", "battery staple"
	created, err := access.CreateAccount(t.Context(), &pb.CreateAccountRequest{Name: "App", Password: first})
	if err != nil || created.Account.Name != "app" || created.Account.CreatedBy == "" || created.Account.ChangedAt == nil {
		t.Fatalf("%v, %v", created, err)
	}
	changed, err := access.ChangePassword(t.Context(), &pb.ChangePasswordRequest{Name: "APP", Password: second})
	if err != nil || changed.Account.Name != "app" {
		t.Fatalf("%v, %v", changed, err)
	}
	record, _ := w.State.Account("app")
	list, err := access.ListAccounts(t.Context(), &pb.ListAccountsRequest{})
	if err != nil || len(list.Accounts) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	shown := w.Log() + created.String() + changed.String() + list.String()
	for _, event := range w.Proposed() {
		if set := event.GetAccountSet(); set != nil {
			if !strings.HasPrefix(set.PasswordHash, "$2a$") {
				t.Errorf("hash %q", set.PasswordHash)
			}
			set.PasswordHash = ""
		}
		shown += event.String()
	}
	for _, secret := range []string{first, second, record.PasswordHash} {
		if secret == "" || strings.Contains(shown, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	if !strings.Contains(w.Log(), `subject="account app"`) {
		t.Errorf("the log doesn't say who changed it:\n%s", w.Log())
	}
}

func TestAccountsThatCantBe(t *testing.T) {
	w := admintest.Start(t)
	access := pb.NewAccessServiceClient(dial(t, w).conn)
	create := func(name, password string) error {
		_, err := access.CreateAccount(t.Context(), &pb.CreateAccountRequest{Name: name, Password: password})
		return err
	}
	if err := create("app", "correct horse"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, create("app", "correct horse"), codes.FailedPrecondition, "account passwd app")
	wantCode(t, create("", "correct horse"), codes.InvalidArgument, "want 1 to 128")
	wantCode(t, create("a b", "correct horse"), codes.InvalidArgument, "want 1 to 128")
	wantCode(t, create("ann", "short"), codes.InvalidArgument, "want 8 to 72")
	_, err := access.ChangePassword(t.Context(), &pb.ChangePasswordRequest{Name: "ann", Password: "correct horse"})
	wantCode(t, err, codes.NotFound, "no account ann")
	_, err = access.RemoveAccount(t.Context(), &pb.RemoveAccountRequest{Name: "ann"})
	wantCode(t, err, codes.NotFound, "no account ann")
	w.LoseQuorum(errors.New("no quorum"))
	wantCode(t, create("ann", "correct horse"), codes.Unavailable, "")
	if list, err := access.ListAccounts(t.Context(), &pb.ListAccountsRequest{}); err != nil || !list.Stale || len(list.Accounts) != 1 {
		t.Errorf("without a quorum: %v, %v", list, err)
	}
}

// Whose window is limited to domains sees who sent to them, and not as which
// account: that is the sender's.
func TestAccountOfAMessage(t *testing.T) {
	v := openWindow(t)
	all, err := dial(t, v.World).GetQueued(t.Context(), &pb.GetQueuedRequest{Id: v.own.String()})
	if err != nil || all.Message.Account != "app@client.test" {
		t.Errorf("%v, %v", all, err)
	}
	own, err := v.GetQueued(t.Context(), &pb.GetQueuedRequest{Id: v.own.String()})
	if err != nil || own.Message.Account != "" || own.Message.ClientAddress == "" {
		t.Errorf("%v, %v", own, err)
	}
}
