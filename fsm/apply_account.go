package fsm

import (
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Limits of the accounts, which are all kept in memory.
const (
	maxAccounts     = 10_000
	maxPasswordHash = 255
)

// accountSet makes an account or gives it another password. What it is given is a
// hash: a password never comes into the log.
func (t *tx) accountSet(e *pb.AccountSet) *pb.EventResult {
	if refusal := t.checkAccount(e); refusal != nil {
		return refusal
	}
	record := &pb.AccountRecord{
		Name: e.Name, PasswordHash: e.PasswordHash, CreatedAt: t.event.Time, CreatedBy: t.event.By,
		ChangedAt: t.event.Time, ChangedBy: t.event.By, Revision: t.index,
	}
	old, exists := lookup(t.tables.accounts, e.Name)
	switch {
	case !exists && e.Revision != 0:
		return refused(pb.EventResult_CODE_NOT_FOUND, "no account %s", e.Name)
	case exists && e.Revision == 0:
		return refused(pb.EventResult_CODE_IN_USE,
			"an account named %s exists: `holdfast account passwd %s` gives it another password", e.Name, e.Name)
	case exists && e.Revision != old.Revision:
		return stale("account %s was changed meanwhile", e.Name)
	case exists:
		record.CreatedAt, record.CreatedBy = old.CreatedAt, old.CreatedBy
	case t.tables.accounts.Len() >= maxAccounts:
		return refused(pb.EventResult_CODE_IN_USE, "there are %d accounts, the most there can be: remove some first", maxAccounts)
	}
	key := keyOfName(famAccounts, e.Name)
	t.put(key, t.get(key), encode(record))
	t.tables.accounts, _, _ = t.tables.accounts.Insert([]byte(e.Name), record)
	return resultOK
}

func (t *tx) checkAccount(e *pb.AccountSet) *pb.EventResult {
	switch name, ok := relay.AccountName(e.Name); {
	case !ok || name != e.Name:
		return invalid("account name %q: want 1 to %d lower-case letters, digits, \".\", \"_\", \"-\", \"+\" or \"@\"", e.Name, relay.MaxAccountName)
	case e.PasswordHash == "" || len(e.PasswordHash) > maxPasswordHash:
		return invalid("account %s has no password", e.Name)
	case len(t.event.By) > maxTokenMaker:
		return invalid("account %s: who made it is longer than %d bytes", e.Name, maxTokenMaker)
	}
	return nil
}

func (t *tx) accountRemoved(e *pb.AccountRemoved) *pb.EventResult {
	old, ok := lookup(t.tables.accounts, e.Name)
	if !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no account %q", e.Name)
	}
	if old.Revision != e.Revision {
		return stale("account %s was changed meanwhile", e.Name)
	}
	t.remove(keyOfName(famAccounts, e.Name), encode(old))
	t.tables.accounts, _, _ = t.tables.accounts.Delete([]byte(e.Name))
	return resultOK
}

// Account finds an account by its name, as this node has it now.
func (s *State) Account(name string) (*pb.AccountRecord, bool) {
	return lookup(s.published().accounts, name)
}

// HasAccounts reports whether there is any account.
func (s *State) HasAccounts() bool { return s.published().accounts.Len() > 0 }

// Accounts lists the accounts, sorted by name.
func (v *View) Accounts() []*pb.AccountRecord { return list(v.tables.accounts) }
