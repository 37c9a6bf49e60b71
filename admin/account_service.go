package admin

import (
	"context"
	"fmt"
	"strings"

	"holdfast/password"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// CreateAccount brings the hash of a password into the log, never the password.
func (s *accessService) CreateAccount(ctx context.Context, req *pb.CreateAccountRequest) (*pb.CreateAccountResponse, error) {
	name, err := accountName(req.Name)
	if err != nil {
		return nil, err
	}
	created, late, err := s.setPassword(ctx, name, req.Password, 0)
	if err != nil {
		return nil, lookFirst(err, fmt.Sprintf("`holdfast account list`: if %s is there, `holdfast account passwd %s` sets its password", name, name))
	}
	return &pb.CreateAccountResponse{Account: created, Unconfirmed: late}, nil
}

func (s *accessService) ChangePassword(ctx context.Context, req *pb.ChangePasswordRequest) (*pb.ChangePasswordResponse, error) {
	record, err := s.findAccount(req.Name)
	if err != nil {
		return nil, err
	}
	changed, late, err := s.setPassword(ctx, record.Name, req.Password, record.Revision)
	if err != nil {
		return nil, err
	}
	return &pb.ChangePasswordResponse{Account: changed, Unconfirmed: late}, nil
}

// setPassword says beside the account why a node may not have it yet, "" where all do:
// the caller may have made the password for this call.
func (s *accessService) setPassword(ctx context.Context, name, given string, revision uint64) (set *pb.Account, late string, err error) {
	prepared, err := password.Prepare(given)
	if err != nil {
		return nil, "", invalid("password", "account %s: %v", name, err)
	}
	hash, err := password.Hash(prepared)
	if err != nil {
		return nil, "", fmt.Errorf("hash a password: %w", err)
	}
	event := &pb.Event{Kind: &pb.Event_AccountSet{AccountSet: &pb.AccountSet{
		Name: name, PasswordHash: hash, Revision: revision,
	}}}
	if late, err = s.configureOnce(ctx, event, "account "+name); err != nil {
		return nil, "", err
	}
	record, ok := s.State.Account(name)
	switch {
	case ok:
		return account(record), late, nil
	case late == "":
		return nil, "", noAccount(name) // removed at this moment
	}
	return &pb.Account{Name: name}, late, nil
}

func (s *accessService) ListAccounts(ctx context.Context, req *pb.ListAccountsRequest) (*pb.ListAccountsResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	records, next, err := namedPage(w.listingOfNames("accounts"), w.Accounts(), (*pb.AccountRecord).GetName, req.PageSize, req.PageToken)
	if err != nil {
		return nil, err
	}
	out := &pb.ListAccountsResponse{NextPageToken: next, Stale: !w.quorum}
	for _, record := range records {
		out.Accounts = append(out.Accounts, account(record))
	}
	return out, nil
}

func (s *accessService) RemoveAccount(ctx context.Context, req *pb.RemoveAccountRequest) (*pb.RemoveAccountResponse, error) {
	record, err := s.findAccount(req.Name)
	if err != nil {
		return nil, err
	}
	event := &pb.Event{Kind: &pb.Event_AccountRemoved{AccountRemoved: &pb.AccountRemoved{
		Name: record.Name, Revision: record.Revision,
	}}}
	if err := s.configure(ctx, event, "account "+record.Name); err != nil {
		return nil, err
	}
	return &pb.RemoveAccountResponse{}, nil
}

func (s *accessService) findAccount(given string) (*pb.AccountRecord, error) {
	name, err := accountName(given)
	if err != nil {
		return nil, err
	}
	record, ok := s.State.Account(name)
	if !ok {
		return nil, noAccount(name)
	}
	return record, nil
}

func accountName(given string) (string, error) {
	name, ok := relay.AccountName(given)
	if !ok {
		return "", invalid("name", "account name %q: want 1 to %d letters, digits, \".\", \"_\", \"-\", \"+\" or \"@\"",
			strings.ToValidUTF8(given, "?"), relay.MaxAccountName)
	}
	return name, nil
}

func noAccount(name string) error {
	return notFound("account", name, fmt.Sprintf("no account %s; `holdfast account list` shows all", name))
}

// account is an account without the hash of its password.
func account(r *pb.AccountRecord) *pb.Account {
	return &pb.Account{
		Name: r.Name, CreatedAt: timestamp(r.CreatedAt), CreatedBy: r.CreatedBy,
		ChangedAt: timestamp(r.ChangedAt), ChangedBy: r.ChangedBy,
	}
}
