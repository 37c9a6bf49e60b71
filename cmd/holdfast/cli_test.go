package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

var rewrite = flag.Bool("rewrite", false, "write what the commands print to testdata")

// asProgram is the variable that makes the test binary the program.
const asProgram = "HOLDFAST_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// shell runs command lines against a world.
type shell struct {
	env      map[string]string
	terminal bool
	in       string
	answer   func() string // typed once something asks, in place of in
	// completing is what completion may take; 0 is as long as a machine at work needs
	// to name all that there is.
	completing time.Duration
}

type result struct {
	status   int
	out, err string
}

func (s shell) run(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	var in io.Reader = strings.NewReader(s.in)
	if s.answer != nil {
		in = &typed{answer: s.answer}
	}
	a := &app{
		in: in, out: &out, err: &errs,
		now:      func() time.Time { return admintest.Now },
		env:      func(name string) string { return s.env[name] },
		terminal: func() bool { return s.terminal }, completing: cmp.Or(s.completing, 20*time.Second),
	}
	status := a.run(t.Context(), args)
	return result{status: status, out: out.String(), err: errs.String()}
}

// typed is what somebody answers who is asked.
type typed struct {
	answer func() string
	done   bool
}

func (t *typed) Read(p []byte) (int, error) {
	if t.done {
		return 0, io.EOF
	}
	t.done = true
	return copy(p, t.answer()), nil
}

func shellFor(w *admintest.World) shell {
	return shell{env: map[string]string{"HOLDFAST_ADDR": w.Socket}}
}

// scene has something of everything: mail that waits for a slot, for its next
// attempt, for a destination that is down, and mail that has arrived.
func scene(t *testing.T) (*admintest.World, map[string]string) {
	w := admintest.Start(t)
	w.Configure()
	deferred := w.Accept(3*time.Hour, "alice@x.test", "r@one.test")
	w.Claim(1, deferred, "one")
	w.Defer(1, deferred, "one", 15*time.Minute)
	waiting := w.Accept(time.Minute, "", "s@one.test")
	down := w.Accept(26*time.Hour, "bob@y.test", "r@two.test")
	done := w.Accept(2*time.Hour, "alice@x.test", "done@two.test")
	w.Claim(2, done, "two")
	w.Deliver(2, done, "two")
	w.BringDown("two")
	return w, map[string]string{
		"DEFERRED": deferred.String(), "WAITING": waiting.String(), "DOWN": down.String(), "DONE": done.String(),
	}
}

func TestGolden(t *testing.T) {
	w, ids := scene(t)
	sh := shellFor(w)
	for _, line := range []string{
		"status", "status --json",
		"queue list", "queue list --json", "queue list --domain two.test", "queue list --state held",
		"queue show DEFERRED", "queue show DOWN --json",
		"queue count", "queue count --json", "queue count --by domain", "queue count --by destination --json",
		"queue cat WAITING", "queue cat --body WAITING",
		"queue retry --domain one.test --dry-run",
		"log search", "log search --state delivered --json", "log search --id DONE",
		"log search --since 3d --reply GREYLISTED --oldest-first", "log search --message-id none@x.test",
		"log tail --from 7 --limit 4", "log tail --since 2d --to done@two.test --limit 2 --json",
		"queue list --at 10", "queue list --at 12 --json", "queue count --at 10 --domain one.test",
		"log show DONE", "log show DEFERRED --json",
		"domain list", "domain list --json", "domain show one.test", "domain show one.test --json",
		"policy show stepped", "policy show eleven --json", "policy list", "policy list --json",
		"destination list", "destination list --json", "destination show two", "destination show two --json",
	} {
		t.Run(line, func(t *testing.T) {
			args := strings.Fields(line)
			for i, arg := range args {
				if id, ok := ids[arg]; ok {
					args[i] = id
				}
			}
			r := sh.run(t, args...)
			if r.status != exitDone || r.err != "" {
				t.Errorf("status %d, stderr %q", r.status, r.err)
			}
			if strings.HasSuffix(line, "--json") {
				wantJSONLines(t, r.out)
			}
			compare(t, strings.ReplaceAll(line, " ", "_")+".txt", r.out)
		})
	}
}

func wantJSONLines(t *testing.T, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
	}
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The names of the contract and those that CHANGES.md adds, none more and none
// less.
func TestJSONHasTheContractsNames(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	message := "id from size acceptedAt state recipients recipients.address recipients.domain recipients.destination " +
		"recipients.state recipients.attempts recipients.nextAttempt recipients.expiresAt recipients.inDoubt recipients.spam " +
		"recipients.causes recipients.lastError recipients.lastError.cause recipients.lastError.phase recipients.lastError.host " +
		"recipients.lastError.code recipients.lastError.enhanced recipients.lastError.text recipients.lastError.at"
	for line, want := range map[string]string{
		"status --json": "leader stale stateVersion nodes nodes.name nodes.role nodes.alive nodes.appliedIndex nodes.version " +
			"nodes.readsStateVersion queue " +
			"queue.pending queue.held queue.frozen queue.inDoubt destinationsDown destinationsDown.name destinationsDown.since " +
			"destinationsDown.cause destinationsDown.nextProbe warnings warnings.code warnings.subject warnings.text",
		"queue list --from alice@x.test --json": message,
		"log search --to r@one.test --json":     message,
		"queue count --json":                    "pending held frozen inDoubt",
		"queue count --by domain --json":        "domain pending held frozen inDoubt delivered failed",
		"queue count --by destination --json":   "destination pending held frozen inDoubt delivered failed",
	} {
		r := sh.run(t, strings.Fields(line)...)
		first, _, _ := strings.Cut(r.out, "\n")
		var object map[string]any
		if err := json.Unmarshal([]byte(first), &object); err != nil {
			t.Fatalf("%s: %q: %v", line, r.out, err)
		}
		got := names("", object)
		for _, name := range strings.Fields(want) {
			if !got[name] {
				t.Errorf("%s: no %s", line, name)
			}
			delete(got, name)
		}
		if len(got) > 0 {
			t.Errorf("%s: also has %v", line, got)
		}
	}
}

func names(prefix string, v any) map[string]bool {
	all := map[string]bool{}
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			all[prefix+name] = true
			for inner := range names(prefix+name+".", value) {
				all[inner] = true
			}
		}
	case []any:
		for _, item := range v {
			for inner := range names(prefix, item) {
				all[inner] = true
			}
		}
	}
	return all
}

func TestUsage(t *testing.T) {
	w, ids := scene(t)
	sh := shellFor(w)
	for line, want := range map[string]string{
		"bogus":                                                `unknown command "bogus"`,
		"queue retyr":                                          "did you mean retry?",
		"status --bogus":                                       "unknown flag: --bogus",
		"status extra":                                         "want no arguments",
		"queue show":                                           "want one message id",
		"queue show x":                                         "not a ULID",
		"queue list --state odd":                               `state "odd"`,
		"queue list --from odd":                                `from "odd"`,
		"queue list --since yesterday":                         "--since: time",
		"queue list --older 2h --until 3h":                     "give one of them",
		"queue list --limit -1":                                "want 1 or more",
		"queue delete --all --yes --limit 0":                   "want 1 or more",
		"queue count --by sender":                              "want domain or destination",
		"queue count --by domain --to a@b.c":                   "without a filter",
		"queue retry":                                          "say which messages",
		"queue redirect x":                                     "--destination-new or --rcpt-new",
		"queue retry --all":                                    "add --yes",
		"queue retry --domain one.test":                        "add --yes",
		"queue retry --all --domain x":                         "contradict",
		"queue retry x --all":                                  "not several",
		"domain set new.test":                                  "--destination",
		"domain set one.test --verify perhaps":                 "--verify \"perhaps\": want off, callout or listed",
		"domain set * --destination one --verify callout":      "want verify off",
		"recipient add anna":                                   "\"anna\" is not a mail address",
		"recipient add":                                        "one address or more",
		"recipient remove":                                     "say which recipients",
		"recipient remove anna@one.test --all one.test":        "not both",
		"recipient remove --all one.test":                      "add --yes",
		"recipient import one.test - --replace":                "add --yes",
		"recipient import one.test nowhere.txt":                "no such file",
		"recipient check anna":                                 "\"anna\" is not a mail address",
		"domain set one.test --spam-if X~5":                    "spam rule \"X~5\": want HEADER",
		"domain set one.test --spam-if X>five":                 "compares numbers",
		"domain set one.test --max-messages x":                 "--max-messages",
		"domain set one.test --spam-retention 0":               "want 1s to 366d",
		"destination set new":                                  "--host HOST:PORT",
		"destination set one --mx x.test --host y.test:25":     "not both",
		"destination set one --on-5xx drop":                    "bounce or hold",
		"destination set one --auth-user u":                    "--auth-user needs --auth-password-file",
		"destination set one --auth-password-file /no/such":    "no such file",
		"destination set one --slots 0":                        "want 1 to 1000",
		"destination set one --host x":                         "want HOST:PORT",
		"destination set one --probe-max soon":                 "want something like",
		"status --token-file /no/such":                         "--token-file: open /no/such",
		"token create --name n":                                "--role",
		"token create --name n --role king":                    "want viewer, operator or admin",
		"token create --name n --role admin --domain one.test": "no limit to domains",
		"token create --name n/m --role viewer":                "want 1 to 63 letters",
		"token create --name n --role viewer --ttl 1s":         "want 1m",
		"token revoke hft_abc_def":                             "a token's secret",
		"account add n/m --generate":                           "want 1 to 128 letters",
		"status --addr nonsense":                               "want unix:PATH or HOST:PORT",
		"server":                                               "--config FILE",
		"send":                                                 "--to ADDRESS",
		"send --to x":                                          "not a mail address",
		"dev --nodes 9":                                        "want 1, or 3 to 5",
	} {
		t.Run(line, func(t *testing.T) {
			r := sh.run(t, strings.Fields(line)...)
			wantError(t, r, exitUsage, want)
		})
	}
	if r := sh.run(t, "queue", "show", ids["DONE"]); r.status != exitNotFound {
		t.Errorf("finished message: %+v", r)
	}
}

func wantError(t *testing.T, r result, status int, text string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.err, text) {
		t.Errorf("status %d, stderr %q, want %d with %q", r.status, r.err, status, text)
	}
	if strings.Contains(r.err, "rpc error") || strings.Count(r.err, "\n") != 1 || !strings.HasPrefix(r.err, "holdfast: ") {
		t.Errorf("stderr %q is not one line of ours", r.err)
	}
}

func TestExitStatuses(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	wantError(t, sh.run(t, "domain", "show", "none.test"), exitNotFound, "no domain none.test")
	wantError(t, sh.run(t, "destination", "retry", "none"), exitNotFound, "no destination none")
	wantError(t, sh.run(t, "log", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"), exitNotFound, "no message")
	wantError(t, sh.run(t, "destination", "remove", "one"), exitFailed, "in use by one.test")

	nobody := shell{}
	wantError(t, nobody.run(t, "status", "--addr", "127.0.0.1:1", "--addr", "unix:/nonexistent/admin.sock"), exitNoAnswer, "no node answers at 127.0.0.1:1")

	created := sh.run(t, "token", "create", "--name", "customer", "--role", "viewer", "--domain", "one.test")
	customer := shell{env: map[string]string{"HOLDFAST_ADDR": w.Socket, "HOLDFAST_TOKEN": strings.TrimSpace(created.out)}}
	w.LoseQuorum(context.DeadlineExceeded)
	wantError(t, sh.run(t, "destination", "set", "one", "--slots", "3"), exitNoAnswer, "no quorum")
	r := sh.run(t, "queue", "count")
	if r.status != exitDone || !strings.Contains(r.err, "stale") {
		t.Errorf("reading without a quorum: %+v", r)
	}
	if r := sh.run(t, "status"); r.status != exitDone || !strings.HasPrefix(r.out, "STALE: ") {
		t.Errorf("status without a quorum: %+v", r)
	}
	if r := customer.run(t, "status"); r.status != exitDone || !strings.HasPrefix(r.out, "STALE: the node has no quorum, this is its own state\n") {
		t.Errorf("status of a customer without a quorum: %+v", r)
	}
	w.LoseQuorum(errors.New("node is behind"))
	wantError(t, sh.run(t, "domain", "set", "three.test", "--destination", "one"), exitNoAnswer, "node is behind")
}

func TestAddressesAreTriedInTurn(t *testing.T) {
	w, _ := scene(t)
	sh := shell{env: map[string]string{"HOLDFAST_ADDR": "127.0.0.1:1," + w.Socket}}
	if r := sh.run(t, "queue", "count"); r.status != exitDone {
		t.Errorf("from the environment: %+v", r)
	}
	if r := sh.run(t, "queue", "count", "--addr", "unix:/nonexistent,"+w.Socket); r.status != exitDone {
		t.Errorf("from --addr: %+v", r)
	}
}

func TestConfigure(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	w := admintest.Start(t)
	sh := shellFor(w)
	for _, step := range []struct{ line, want string }{
		{"destination set office --host mail.example.com:25 --host [::1]:2525,priority=20", "destination office created: mail.example.com:25, [::1]:2525, 20 slots, tls opportunistic\n"},
		{"destination set office --slots 5 --tls none --probe-max 1h --on-5xx bounce", "destination office changed: mail.example.com:25, [::1]:2525, 5 slots, tls none\n"},
		{"destination suspend office --reason moving", "destination office is suspended since 2026-01-02 03:04:05Z (now) by local user " + me.Username + "; 0 recipients wait for it\n"},
		{"destination resume office", "destination office is resumed and up; 0 recipients wait for it\n"},
		{"destination set far --mx example.com --on-5xx hold", "destination far created: MX of example.com, 20 slots, tls opportunistic\n"},
		{"domain set Example.COM --destination office --verify off", "domain example.com created: its mail goes to office, policy five-day, verify off\n"},
		{"domain set example.com --policy five-day", "domain example.com changed: its mail goes to office, policy five-day, verify off\n"},
		{"destination retry office", "destination office is up, there is nothing to probe\n"},
		{"domain remove example.com", "domain example.com removed\n"},
		{"destination remove office", "destination office removed\n"},
	} {
		r := sh.run(t, strings.Fields(step.line)...)
		if r.status != exitDone || r.out != step.want || r.err != "" {
			t.Errorf("%s: %+v, want %q", step.line, r, step.want)
		}
	}
}

func TestListOverManyPages(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	const n = 1203
	for i := range n {
		w.Accept(time.Duration(i)*time.Second, "s@x.test", fmt.Sprintf("r%d@one.test", i))
	}
	sh := shellFor(w)
	r := sh.run(t, "queue", "list", "--json")
	if lines := strings.Count(r.out, "\n"); r.status != exitDone || lines != n {
		t.Errorf("status %d, %d lines, want %d", r.status, lines, n)
	}
	r = sh.run(t, "log", "search", "--json", "--limit", "700")
	if lines := strings.Count(r.out, "\n"); lines != 700 || !strings.Contains(r.err, "there are more") {
		t.Errorf("%d lines, stderr %q", lines, r.err)
	}
	// What follows is no match.
	r = sh.run(t, "queue", "list", "--to", "r7@one.test", "--limit", "1")
	if lines := strings.Count(r.out, "\n"); lines != 2 || r.err != "" {
		t.Errorf("all that there is: %+v", r)
	}
	r = sh.run(t, "queue", "retry", "--all", "--yes")
	if r.out != "1203 messages with 1203 recipients made due now\n" || len(w.Proposed()) != 8 {
		t.Errorf("retry: %+v in %d events", r, len(w.Proposed()))
	}
}

func TestVerifyNamesWhatDiffers(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	if r := sh.run(t, "cluster", "verify"); r.status != exitDone || !strings.Contains(r.out, "2 nodes compared, identical at index ") {
		t.Errorf("same states: %+v", r)
	}
	if r := sh.run(t, "cluster", "verify", "--json"); r.status != exitDone || !strings.Contains(r.out, `"identical":true`) {
		t.Errorf("same states: %+v", r)
	}
	w.Tamper("messages")
	r := sh.run(t, "cluster", "verify")
	wantError(t, r, exitFailed, "node b in messages")
	if !strings.Contains(r.out, "DIFFERENT") || !strings.Contains(r.out, "node c was not compared: connection refused") {
		t.Errorf("table %s", r.out)
	}
}

// A node that is down doesn't hide that two others differ.
func TestVerifyDeepWithANodeThatIsDown(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	const unread = "rows not read: node c (connection refused)"
	if r := sh.run(t, "cluster", "verify", "--deep"); r.status != exitNoAnswer || !strings.Contains(r.err, unread) {
		t.Errorf("same states: %+v", r)
	}
	w.Tamper("messages")
	if r := sh.run(t, "cluster", "verify", "--deep"); r.status != exitFailed || !strings.Contains(r.err, "node b in messages") || !strings.Contains(r.err, unread) {
		t.Errorf("states that differ: %+v", r)
	}
	alone := &pb.VerifyStateResponse{
		Nodes:      []*pb.VerifyStateResponse_Node{{Name: "a"}, {Name: "b", Error: "connection refused"}},
		Mismatches: []*pb.StateMismatch{{Node: "a", Family: "messages", Text: "a row isn't what was written"}},
	}
	if err := verdict(alone); exitStatus(err) != exitFailed || !strings.Contains(err.Error(), "node a in messages") {
		t.Errorf("the only node that answers has found itself damaged: %v", err)
	}
}

func TestVersionAndCompletion(t *testing.T) {
	var sh shell
	if r := sh.run(t, "version"); r.status != exitDone || !strings.HasPrefix(r.out, "holdfast ") {
		t.Errorf("version: %+v", r)
	}
	if r := sh.run(t, "version", "--json"); r.status != exitDone || !strings.Contains(r.out, `"version":`) {
		t.Errorf("version: %+v", r)
	}
	if r := sh.run(t, "completion", "bash"); r.status != exitDone || !strings.Contains(r.out, "holdfast") {
		t.Errorf("completion: status %d", r.status)
	}
}

func TestServerCheck(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "holdfast.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := fmt.Sprintf("node_id = \"a\"\ndata_dir = %q\n[smtp]\nlisten = [\"127.0.0.1:2525\"]\nhostname = \"a.test\"\n[cluster]\nbootstrap_expect = 1\njoin = [\"127.0.0.1:7500\"]\n", dir)
	write(good)
	var sh shell
	if r := sh.run(t, "server", "--check", "--config", path); r.status != exitDone || r.out != path+" is valid: node a\n" {
		t.Errorf("valid file: %+v", r)
	}
	write(good + "[smpt]\n")
	wantError(t, sh.run(t, "server", "--check", "--config", path), exitFailed, `holdfast.toml:9: unknown key "smpt"`)
	wantError(t, sh.run(t, "server", "--config", path), exitFailed, `unknown key "smpt"`)
}
