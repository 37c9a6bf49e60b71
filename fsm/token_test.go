package fsm

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

func tokenSet(id, name string, role pb.Role, domains ...string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_TokenSet{TokenSet: &pb.TokenSet{Token: &pb.TokenConfig{
		Id: id, Name: name, Role: role, Domains: domains, SecretSha256: bytes.Repeat([]byte{id[0]}, 32), CreatedBy: "local user root",
	}}}}
}

func tokenRevoked(id string) *pb.Event {
	return &pb.Event{Kind: &pb.Event_TokenRevoked{TokenRevoked: &pb.TokenRevoked{Id: id, By: "local user root"}}}
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, tokenSet("one", "ann", pb.Role_ROLE_OPERATOR, "example.test"), nil)
	w.must(1, tokenSet("two", "bob", pb.Role_ROLE_ADMIN), nil)
	record, ok := w.state.Token("one")
	if !ok || record.Config.Name != "ann" || record.CreatedAt == 0 || !slices.Equal(record.Config.Domains, []string{"example.test"}) {
		t.Fatalf("token one: %v", record)
	}
	if again := w.fold(1, tokenSet("one", "carl", pb.Role_ROLE_ADMIN), nil); again.Code != pb.EventResult_CODE_INVALID {
		t.Errorf("a token was changed: %v", again)
	}
	if again := w.fold(1, tokenSet("three", "ann", pb.Role_ROLE_ADMIN), nil); again.Code != pb.EventResult_CODE_IN_USE {
		t.Errorf("two tokens of one name: %v", again)
	}
	w.must(1, tokenRevoked("one"), nil)
	if _, ok := w.state.Token("one"); ok {
		t.Error("a revoked token is there")
	}
	if again := w.fold(1, tokenRevoked("one"), nil); again.Code != pb.EventResult_CODE_NOT_FOUND {
		t.Errorf("revoked twice: %v", again)
	}
	w.must(1, tokenSet("three", "ann", pb.Role_ROLE_VIEWER), nil)
	checkState(t, w.state)
}

// Whoever has a domain's name next must not be seen by who had it before.
func TestDomainStaysWhileATokenIsLimitedToIt(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, tokenSet("one", "ann", pb.Role_ROLE_VIEWER, "example.test"), nil)
	remove := func() *pb.Event {
		return &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: "example.test"}}}
	}
	if r := w.fold(1, remove(), nil); r.Code != pb.EventResult_CODE_IN_USE || !strings.Contains(r.Text, "holdfast token revoke ann") {
		t.Errorf("removed under a token: %v", r)
	}
	w.must(1, tokenRevoked("one"), nil)
	w.must(1, remove(), nil)
}

func TestTokensThatCantBe(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	change := func(change func(*pb.TokenConfig)) *pb.Event {
		event := tokenSet("one", "ann", pb.Role_ROLE_VIEWER, "example.test")
		change(event.GetTokenSet().Token)
		return event
	}
	for name, event := range map[string]*pb.Event{
		"nothing":         {Kind: &pb.Event_TokenSet{TokenSet: &pb.TokenSet{}}},
		"no id":           change(func(c *pb.TokenConfig) { c.Id = "" }),
		"odd id":          change(func(c *pb.TokenConfig) { c.Id = "a_b" }),
		"no name":         change(func(c *pb.TokenConfig) { c.Name = "" }),
		"name of words":   change(func(c *pb.TokenConfig) { c.Name = "a b" }),
		"long name":       change(func(c *pb.TokenConfig) { c.Name = strings.Repeat("a", 64) }),
		"no role":         change(func(c *pb.TokenConfig) { c.Role = 0 }),
		"unknown role":    change(func(c *pb.TokenConfig) { c.Role = 4 }),
		"limited admin":   change(func(c *pb.TokenConfig) { c.Role = pb.Role_ROLE_ADMIN }),
		"no hash":         change(func(c *pb.TokenConfig) { c.SecretSha256 = nil }),
		"short hash":      change(func(c *pb.TokenConfig) { c.SecretSha256 = []byte("short") }),
		"unsorted":        change(func(c *pb.TokenConfig) { c.Domains = []string{"example.test", "example.test"} }),
		"too many":        change(func(c *pb.TokenConfig) { c.Domains = make([]string, MaxTokenDomains+1) }),
		"endless creator": change(func(c *pb.TokenConfig) { c.CreatedBy = strings.Repeat("a", 2000) }),
	} {
		if r := w.fold(1, event, nil); r.Code != pb.EventResult_CODE_INVALID || r.Text == "" {
			t.Errorf("%s: %v", name, r)
		}
	}
	if r := w.fold(1, tokenSet("one", "ann", pb.Role_ROLE_VIEWER, "unknown.test"), nil); r.Code != pb.EventResult_CODE_NOT_FOUND {
		t.Errorf("unknown domain: %v", r)
	}
}

// An operation of somebody who is limited to domains leaves others' recipients
// alone, whoever proposes it and whatever targets it names.
func TestOperationsKeepToTheirDomains(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, domainSet("other.test", "dest"), nil)
	id := w.accept(1, "x@example.test", "y@other.test")
	hold := proto.CloneOf(opHold)
	hold.Domains = []string{"example.test"}
	if r := w.fold(1, operated(hold, id, 0, 1), nil); r.Code != pb.EventResult_CODE_OK || r.Changed != 1 {
		t.Fatalf("held: %v", r)
	}
	if r := w.fold(1, operated(hold, id, 1), nil); r.Code != pb.EventResult_CODE_STALE || strings.Contains(r.Text, "other.test") {
		t.Errorf("of others alone: %v", r)
	}
	own, other := w.recipientOf(id, 0), w.recipientOf(id, 1)
	if own.State != pb.RecipientState_RECIPIENT_STATE_HELD || other.State != pb.RecipientState_RECIPIENT_STATE_PENDING {
		t.Errorf("held %v and %v", own.State, other.State)
	}
	if own.HeldBy.Operation.Domains != nil {
		t.Error("the record keeps the caller's domains")
	}
	checkState(t, w.state)
}
