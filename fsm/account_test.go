package fsm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

func accountSet(name, hash string, revision uint64) *pb.Event {
	return &pb.Event{By: "local user root", Kind: &pb.Event_AccountSet{AccountSet: &pb.AccountSet{
		Name: name, PasswordHash: hash, Revision: revision,
	}}}
}

func accountRemoved(name string, revision uint64) *pb.Event {
	return &pb.Event{By: "local user root", Kind: &pb.Event_AccountRemoved{AccountRemoved: &pb.AccountRemoved{
		Name: name, Revision: revision,
	}}}
}

func TestAccounts(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	if w.state.HasAccounts() {
		t.Error("a new state has accounts")
	}
	w.must(1, accountSet("app@example.test", "$2a$one", 0), nil)
	first, ok := w.state.Account("app@example.test")
	if !ok || !w.state.HasAccounts() || first.PasswordHash != "$2a$one" || first.CreatedBy != "local user root" ||
		first.CreatedAt == 0 || first.ChangedAt != first.CreatedAt || first.Revision == 0 {
		t.Fatalf("account: %v", first)
	}
	w.now = w.now.Add(time.Hour)
	change := accountSet("app@example.test", "$2a$two", first.Revision)
	change.By = "admin ann"
	w.must(1, change, nil)
	second, _ := w.state.Account("app@example.test")
	if second.PasswordHash != "$2a$two" || second.CreatedBy != "local user root" || second.ChangedBy != "admin ann" || second.CreatedAt != first.CreatedAt ||
		second.ChangedAt != w.now.UnixNano() || second.Revision <= first.Revision {
		t.Errorf("with another password: %v", second)
	}
	for name, tt := range map[string]struct {
		event *pb.Event
		code  pb.EventResult_Code
	}{
		"made twice":                 {accountSet("app@example.test", "$2a$x", 0), pb.EventResult_CODE_IN_USE},
		"changed from a past one":    {accountSet("app@example.test", "$2a$x", first.Revision), pb.EventResult_CODE_STALE},
		"another one changed":        {accountSet("nobody", "$2a$x", first.Revision), pb.EventResult_CODE_NOT_FOUND},
		"a past one removed":         {accountRemoved("app@example.test", first.Revision), pb.EventResult_CODE_STALE},
		"one that isn't there":       {accountRemoved("nobody", 0), pb.EventResult_CODE_NOT_FOUND},
		"no name":                    {accountSet("", "$2a$x", 0), pb.EventResult_CODE_INVALID},
		"upper case":                 {accountSet("Ann", "$2a$x", 0), pb.EventResult_CODE_INVALID},
		"a name of words":            {accountSet("a b", "$2a$x", 0), pb.EventResult_CODE_INVALID},
		"a long name":                {accountSet(strings.Repeat("a", 129), "$2a$x", 0), pb.EventResult_CODE_INVALID},
		"no password":                {accountSet("ann", "", 0), pb.EventResult_CODE_INVALID},
		"an endless hash":            {accountSet("ann", strings.Repeat("x", 256), 0), pb.EventResult_CODE_INVALID},
		"an event that has nothing ": {&pb.Event{Kind: &pb.Event_AccountSet{AccountSet: &pb.AccountSet{}}}, pb.EventResult_CODE_INVALID},
	} {
		if r := w.fold(1, tt.event, nil); r.Code != tt.code || r.Text == "" {
			t.Errorf("%s: %v", name, r)
		}
	}
	long := accountSet("ann", "$2a$x", 0)
	long.By = strings.Repeat("a", maxTokenMaker+1)
	if r := w.fold(1, long, nil); r.Code != pb.EventResult_CODE_INVALID {
		t.Errorf("made by somebody without end: %v", r)
	}
	w.must(1, accountRemoved("app@example.test", second.Revision), nil)
	if _, ok := w.state.Account("app@example.test"); ok || w.state.HasAccounts() {
		t.Error("a removed account is there")
	}
	checkState(t, w.state)
}

// A password that is set while the account is removed, and made anew, doesn't reach
// the new one; nor does an event that is applied a second time bring back what was
// removed between.
func TestAccountIsNotBroughtBack(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	add := accountSet("app", "$2a$one", 0)
	w.must(1, add, nil)
	first, _ := w.state.Account("app")
	w.must(1, accountRemoved("app", first.Revision), nil)
	again := w.entry([]*pb.Event{add}, [][]byte{nil}) // the same sequence: its outcome wasn't known
	if r := w.state.Apply(again).(*Applied).Results[0]; r.Code != pb.EventResult_CODE_OK {
		t.Errorf("applied twice: %v", r)
	}
	if _, ok := w.state.Account("app"); ok {
		t.Fatal("the repeated event brought the account back")
	}
	w.must(1, accountSet("app", "$2a$two", 0), nil)
	if r := w.fold(1, accountSet("app", "$2a$late", first.Revision), nil); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("a late password: %v", r)
	}
	if r := w.fold(1, accountRemoved("app", first.Revision), nil); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("a late removal: %v", r)
	}
	if kept, _ := w.state.Account("app"); kept.GetPasswordHash() != "$2a$two" {
		t.Errorf("kept %v", kept)
	}
}

func TestAccountsHaveALimit(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	events, payloads := make([]*pb.Event, maxAccounts), make([][]byte, maxAccounts)
	for i := range events {
		events[i] = accountSet(fmt.Sprint("a", i), "x", 0)
		w.sequences[1]++
		events[i].Incarnation, events[i].Sequence, events[i].LowestOpen = 1, w.sequences[1], w.sequences[1]
		events[i].Time = w.now.UnixNano()
	}
	applied := w.state.Apply(w.entry(events, payloads)).(*Applied)
	if last := applied.Results[maxAccounts-1]; last.Code != pb.EventResult_CODE_OK {
		t.Fatalf("the last that there may be: %v", last)
	}
	if r := w.fold(1, accountSet("one-more", "x", 0), nil); r.Code != pb.EventResult_CODE_IN_USE {
		t.Errorf("one more: %v", r)
	}
}
