package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// listedNow are the addresses of a domain's list as the command prints it.
func listedNow(t *testing.T, sh shell, domain string) []string {
	t.Helper()
	r := sh.run(t, "recipient", "list", domain, "--json")
	if r.status != exitDone || r.err != "" {
		t.Fatalf("%+v", r)
	}
	var addresses []string
	for line := range strings.Lines(r.out) {
		var listed listedJSON
		if err := json.Unmarshal([]byte(line), &listed); err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, listed.Address)
	}
	return addresses
}

func wantListed(t *testing.T, sh shell, domain string, want ...string) {
	t.Helper()
	if got := listedNow(t, sh, domain); !slices.Equal(got, want) {
		t.Errorf("%s lists %q, want %q", domain, got, want)
	}
}

func TestRecipientLists(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	for _, step := range []struct{ line, want string }{
		{"recipient add Anna@One.TEST bert@one.test carl@two.test", "domain one.test: 2 recipients added; it lists 2\ndomain two.test: 1 recipient added; it lists 1\n"},
		{"recipient add ANNA@one.test dora@one.test", "domain one.test: 1 recipient added, 1 listed before; it lists 3\n"},
		{"recipient remove bert@one.test nobody@one.test", "domain one.test: 1 recipient removed, 1 not listed; it lists 2\n"},
		{"recipient remove --all ONE.test --yes", "domain one.test: 2 recipients removed; it lists 0\n"},
		{"recipient remove --all one.test --yes", "domain one.test lists no recipients\n"},
		{"domain set two.test --verify listed", "domain two.test changed: its mail goes to two, policy five-day, verify listed\n"},
		{"domain set new.test --destination two", "domain new.test created: its mail goes to two, policy five-day, verify callout\n"},
		{"domain set * --destination two", "domain * created: its mail goes to two, policy five-day, verify off\n"},
	} {
		if r := sh.run(t, strings.Fields(step.line)...); r.status != exitDone || r.out != step.want || r.err != "" {
			t.Errorf("%s: %+v, want %q", step.line, r, step.want)
		}
	}
	wantListed(t, sh, "one.test")
	wantListed(t, sh, "two.test", "carl@two.test")
	r := sh.run(t, "recipient", "list", "two.test")
	if !strings.HasPrefix(r.out, "RECIPIENT      ADDED ") || !strings.Contains(r.out, "carl@two.test  2026-01-02 03:04:05Z (now)  local user ") {
		t.Errorf("%+v", r)
	}
	if r := sh.run(t, "domain", "show", "two.test"); !strings.Contains(r.out, "verify       listed\n") || !strings.Contains(r.out, "listed       1 recipient\n") {
		t.Errorf("%+v", r)
	}
	sh.terminal, sh.in = true, "n\n"
	r = sh.run(t, "recipient", "remove", "--all", "two.test")
	wantError(t, r, exitFailed, "not confirmed, nothing was changed")
	if !strings.Contains(r.out, "1 recipient would be taken off the list of two.test: carl@two.test\ntwo.test takes listed recipients only") {
		t.Error(r.out)
	}
	wantListed(t, sh, "two.test", "carl@two.test")
	for line, want := range map[string]string{
		"recipient add x@none.test":              "no domain none.test",
		"recipient remove x@none.test":           "no domain none.test",
		"recipient list none.test":               "no domain none.test",
		"recipient list none.test --cache":       "no domain none.test",
		"recipient remove --all none.test --yes": "no domain none.test",
	} {
		wantError(t, sh.run(t, strings.Fields(line)...), exitNotFound, want)
	}
	sh.in = "anna\n"
	wantError(t, sh.run(t, "recipient", "import", "*", "-"), exitUsage, "domain * is the way to all others, and has no recipients of its own")
}

func TestRecipientImport(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	const file = "testdata/recipients.txt"
	if r := sh.run(t, "recipient", "import", "one.test", file); r.status != exitDone ||
		r.out != "domain one.test: 4 recipients of "+file+" added, 0 listed before, 0 recipients removed; it lists 4\n" {
		t.Errorf("%+v", r)
	}
	wantListed(t, sh, "one.test", `"emil m"@one.test`, "anna@one.test", "bert#1@one.test", "carl@one.test")
	sh.in = "\ufeffdora\nANNA\n" // marked as UTF-8
	if r := sh.run(t, "recipient", "import", "one.test", "-"); r.out != "domain one.test: 1 recipient of stdin added, 1 listed before, 0 recipients removed; it lists 5\n" {
		t.Errorf("%+v", r)
	}
	sh.terminal, sh.in = true, "no\n"
	r := sh.run(t, "recipient", "import", "one.test", file, "--replace")
	wantError(t, r, exitFailed, "not confirmed")
	if !strings.HasPrefix(r.out, "0 recipients would be added to the list of one.test, and 1 recipient taken off it that "+file+" doesn't have: dora@one.test\n") {
		t.Error(r.out)
	}
	sh.terminal = false
	for range 2 { // the second time there is nothing to do, and nothing to confirm
		if r := sh.run(t, "recipient", "import", "one.test", file, "--replace", "--yes"); r.status != exitDone || !strings.HasSuffix(r.out, "it lists 4\n") {
			t.Errorf("%+v", r)
		}
	}
	if n := len(w.Proposed()); n != 3 {
		t.Errorf("%d events, want 3: what is so already is no event", n)
	}
}

// A file is taken whole or not at all.
func TestRecipientImportRefuses(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	sh.in = "anna\n\n# comment\nbert@two.test\nan na\n"
	r := sh.run(t, "recipient", "import", "one.test", "-")
	if r.status != exitUsage || r.err != "stdin:4: bert@two.test is an address of domain two.test, not of one.test\n"+
		"stdin:5: \"an na\" is neither a mail address nor a local part of one\nholdfast: stdin: 2 errors, nothing was changed\n" {
		t.Errorf("%+v", r)
	}
	sh.in = strings.Repeat("a b\n", 30)
	if r := sh.run(t, "recipient", "import", "one.test", "-"); strings.Count(r.err, "\n") != 21 || !strings.HasSuffix(r.err, "30 errors, nothing was changed\n") {
		t.Errorf("%+v", r)
	}
	sh.in = "# nobody\n"
	wantError(t, sh.run(t, "recipient", "import", "one.test", "-", "--replace", "--yes"), exitUsage, "`holdfast recipient remove --all one.test` empties the list")
	var long strings.Builder
	for i := range maxListed + 1 {
		fmt.Fprintf(&long, "u%d\n", i)
	}
	sh.in = long.String()
	wantError(t, sh.run(t, "recipient", "import", "one.test", "-"), exitFailed, "would list 100001 recipients, 100000 at most; nothing was changed")
	wantListed(t, sh, "one.test")
}

// What a file adds comes first and in pieces, what it removes last: whoever is in
// both lists is listed after every event.
func TestRecipientImportInPieces(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	dir := t.TempDir()
	file := func(name string, from, to int) string {
		var text strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&text, "u%04d@one.test\n", i)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range []string{file("old", 0, 1500), file("new", 1000, 2600)} {
		if r := sh.run(t, "recipient", "import", "one.test", name, "--replace", "--yes"); r.status != exitDone {
			t.Fatalf("%+v", r)
		}
	}
	var course []string
	for _, event := range w.Proposed() {
		change := event.GetRecipientsChanged()
		course = append(course, fmt.Sprintf("+%d-%d", len(change.Added), len(change.Removed)))
	}
	if got := strings.Join(course, " "); got != "+1000-0 +500-0 +1000-0 +100-0 +0-1000" {
		t.Errorf("pieces %s", got)
	}
	listed := listedNow(t, sh, "one.test")
	if len(listed) != 1600 || listed[0] != "u1000@one.test" || listed[1599] != "u2599@one.test" {
		t.Errorf("%d listed, %q", len(listed), listed[:min(3, len(listed))])
	}
}

func TestRecipientCheck(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	at := timestamppb.New(admintest.Now.Add(-time.Hour))
	w.SetAnswer("anna@one.test", &pb.CheckRecipientResponse{
		Code: 250, Enhanced: "2.1.5", Text: "ok", Reason: pb.CheckRecipientResponse_REASON_VALID,
		Verified: &pb.VerifiedRecipient{Address: "anna@one.test", Verdict: pb.Verdict_VERDICT_VALID, At: at, Until: timestamppb.New(admintest.Now.Add(95 * time.Hour))},
	})
	w.SetAnswer("Gone@one.test", &pb.CheckRecipientResponse{
		Code: 550, Enhanced: "5.1.1", Text: "no such recipient", Reason: pb.CheckRecipientResponse_REASON_INVALID,
		Verified: &pb.VerifiedRecipient{Address: "Gone@one.test", Verdict: pb.Verdict_VERDICT_INVALID, At: at, Until: timestamppb.New(admintest.Now.Add(time.Hour)),
			Error: &pb.DeliveryError{Cause: "rejected", Phase: "rcpt", Host: "mail.one.test:25", Code: 550, Enhanced: "5.1.1", Text: "User unknown", At: at}},
	})
	for name, c := range map[string]struct {
		args   string
		status int
		err    string
	}{
		"valid":          {"anna@ONE.test", exitDone, ""},
		"valid_anew":     {"anna@one.test --anew", exitDone, ""},
		"invalid":        {"Gone@one.test", exitFailed, "Gone@one.test would be answered 550 5.1.1 no such recipient"},
		"invalid_--json": {"Gone@one.test --json", exitFailed, "Gone@one.test would be answered 550 5.1.1 no such recipient"},
		"unknown":        {"new@one.test", exitFailed, "new@one.test would be answered 450 4.4.3 "},
		"no_domain":      {"anna@none.test --json", exitFailed, "anna@none.test would be answered 550 5.7.1 "},
	} {
		t.Run(name, func(t *testing.T) {
			r := sh.run(t, append([]string{"recipient", "check"}, strings.Fields(c.args)...)...)
			if c.err == "" && (r.status != c.status || r.err != "") {
				t.Errorf("%+v", r)
			} else if c.err != "" {
				wantError(t, r, c.status, c.err)
			}
			compare(t, "recipient_check_"+name+".txt", r.out)
		})
	}
}

func TestRecipientCache(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	if r := sh.run(t, "domain", "set", "one.test", "--verify", "callout"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	destination, _ := w.State.Destination("one")
	verified := func(local string, verdict pb.Verdict, failure *pb.Failure, keep time.Duration) {
		w.Fold(&pb.Event{Kind: &pb.Event_RecipientVerified{RecipientVerified: &pb.RecipientVerified{
			LocalPart: local, Domain: "one.test", Destination: "one", Revision: destination.Config.Revision,
			Verdict: verdict, DomainVerdict: pb.Verdict_VERDICT_SELECTIVE, Failure: failure,
			Until: admintest.Now.Add(keep).UnixNano(), DomainUntil: admintest.Now.Add(keep).UnixNano(),
		}}}, nil)
	}
	verified("Anna", pb.Verdict_VERDICT_VALID, nil, 96*time.Hour)
	verified("gone", pb.Verdict_VERDICT_INVALID, &pb.Failure{
		Cause: "rejected", Phase: "rcpt", Host: "mail.one.test:25", Code: 550, Enhanced: "5.1.1", Text: "User unknown", At: admintest.Now.UnixNano(),
	}, 2*time.Hour)
	for _, name := range []string{"recipient_list_cache", "recipient_list_cache_--json"} {
		args := []string{"recipient", "list", "one.test", "--cache"}
		if strings.HasSuffix(name, "--json") {
			args = append(args, "--json")
		}
		r := sh.run(t, args...)
		if r.status != exitDone || r.err != "" {
			t.Errorf("%+v", r)
		}
		compare(t, name+".txt", r.out)
	}
}

// Where a piece fails, the error says how far it came.
func TestPiecesThatFail(t *testing.T) {
	a := &app{err: io.Discard}
	calls := 0
	change := func(_ context.Context, _ string, piece []string) (listChange, error) {
		if calls++; calls == 2 {
			return listChange{}, errors.New("no quorum")
		}
		return listChange{changed: uint64(len(piece)), listed: 7}, nil
	}
	_, err := a.inPieces(t.Context(), change, "added", "one.test", make([]string, 2500))
	if err == nil || err.Error() != "no quorum (before that, 1000 recipients of one.test added; it is safe to repeat)" || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// Without a quorum a command that changes a list says that once; one that finds nothing
// to change says that it may not know.
func TestRecipientListsWithoutAQuorum(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	if r := sh.run(t, "recipient", "add", "anna@one.test"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	w.LoseQuorum(admintest.ErrNoQuorum)
	sh.in = "bert\n"
	wantError(t, sh.run(t, "recipient", "import", "one.test", "-"), exitNoAnswer, "no quorum: nothing was changed")
	wantError(t, sh.run(t, "recipient", "remove", "--all", "one.test", "--yes"), exitNoAnswer, "no quorum: nothing was changed")
	sh.in = "anna\n"
	for _, args := range [][]string{{"import", "one.test", "-"}, {"remove", "--all", "two.test", "--yes"}, {"list", "one.test"}} {
		if r := sh.run(t, append([]string{"recipient"}, args...)...); r.status != exitDone || !strings.Contains(r.err, "stale") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
