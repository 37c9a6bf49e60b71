package main

import (
	"os/user"
	"strings"
	"testing"
	"time"

	"holdfast/test/admintest"
)

func TestBulkAsks(t *testing.T) {
	w, ids := scene(t)
	sh := shellFor(w)
	sh.terminal = true
	sh.in = "n\n"
	r := sh.run(t, "queue", "delete", "--all")
	if r.status != exitFailed || !strings.Contains(r.out, "3 messages with 3 recipients would be deleted") ||
		!strings.Contains(r.out, ids["DOWN"]) || !strings.Contains(r.err, "nothing was changed") {
		t.Errorf("answered no: %+v", r)
	}
	if n := len(w.Proposed()); n != 0 {
		t.Errorf("%d events after a no", n)
	}
	sh.in = "yes\n"
	r = sh.run(t, "queue", "retry", "--all")
	if r.status != exitDone || !strings.HasSuffix(r.out, "3 messages with 3 recipients made due now\n") {
		t.Errorf("answered yes: %+v", r)
	}
	if r := sh.run(t, "queue", "hold", "--from", "nobody@x.test"); r.status != exitDone || r.out != "no message matches\n" {
		t.Errorf("nothing to ask for: %+v", r)
	}
}

// What comes while the question stands isn't hit by the answer.
func TestBulkHitsWhatItAskedFor(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	sh.terminal = true
	late := ""
	sh.answer = func() string {
		late = w.Accept(0, "carl@x.test", "r@one.test").String()
		return "y\n"
	}
	if r := sh.run(t, "queue", "hold", "--domain", "one.test"); r.status != exitDone || !strings.HasSuffix(r.out, "2 messages with 2 recipients held\n") {
		t.Errorf("%+v", r)
	}
	if r := sh.run(t, "queue", "show", late); !strings.Contains(r.out, "pending") {
		t.Errorf("%+v", r)
	}
}

// A time of day is UTC, and of the day before where it is still to come: it says so.
func TestTimeOfDaySaysWhichDay(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	clock := admintest.Now.UTC().Add(time.Minute)
	yesterday := clock.AddDate(0, 0, -1).Format("2006-01-02 15:04:00Z")
	for _, command := range []string{"list", "count"} {
		r := sh.run(t, "queue", command, "--at", clock.Format("15:04"))
		if !strings.HasPrefix(r.err, "holdfast: the queue as it was at "+yesterday+"\n") {
			t.Errorf("%+v", r)
		}
		if r := sh.run(t, "queue", command, "--at", "1h"); strings.Contains(r.err, "as it was at") {
			t.Errorf("%+v", r)
		}
	}
}

func TestOperations(t *testing.T) {
	w, ids := scene(t)
	sh := shellFor(w)
	for _, step := range []struct{ line, want string }{
		{"retry --all --yes", "3 messages with 3 recipients made due now"},
		{"retry --domain one.test --yes --limit 1", "1 message with 1 recipient made due now"},
		{"retry WAITING", "1 message with 1 recipient made due now"},
		{"retry --from nobody@x.test --yes", "0 messages with 0 recipients made due now"},
		{"retry --all --dry-run", "3 messages with 3 recipients would be made due now"},
		{"hold WAITING DEFERRED --dry-run", "2 messages with 2 recipients would be held"},
		{"hold WAITING --reason odd", "1 message with 1 recipient held"},
		{"hold --all --yes", "2 messages with 2 recipients held"},
		{"release --domain one.test --yes", "2 messages with 2 recipients released"},
		{"redirect --domain two.test --destination-new one --yes", "1 message with 1 recipient redirected"},
		{"redirect WAITING --rcpt-new other@two.test", "1 message with 1 recipient redirected"},
		{"delete --all --yes --reason spam", "3 messages with 3 recipients deleted; `holdfast queue undelete` brings them back within delete-grace (`holdfast settings show`)"},
		{"delete --all --yes", "0 messages with 0 recipients deleted"},
		{"undelete DOWN", "1 message with 1 recipient brought back"},
		{"undelete --all --yes", "2 messages with 2 recipients brought back"},
		{"bounce --domain two.test --yes", "2 messages with 2 recipients to be returned"},
		{"thaw --all --yes", "0 messages with 0 recipients thawed"},
	} {
		words := strings.Fields(step.line)
		for i, word := range words {
			if id, ok := ids[word]; ok {
				words[i] = id
			}
		}
		r := sh.run(t, append([]string{"queue"}, words...)...)
		if r.status != exitDone || strings.TrimSpace(r.out) != step.want || r.err != "" {
			t.Errorf("queue %s: %+v, want %q", step.line, r, step.want)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	r := sh.run(t, "log", "show", ids["WAITING"])
	for _, want := range []string{
		"held", "by local user " + me.Username + "; reason: odd", "reason: spam", "undeleted", "redirected", "to other@two.test",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("the log lacks %q:\n%s", want, r.out)
		}
	}
	// Each row names the address that it was for.
	for line := range strings.Lines(r.out) {
		if strings.Contains(line, "accepted ") && strings.Contains(line, "other@two.test") {
			t.Errorf("accepted for an address that it was redirected to: %s", line)
		}
	}
}

// A variable that isn't set must not widen what is hit.
func TestEmptyValuesPickNothing(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	for _, flag := range []string{"domain", "destination", "from", "to", "state", "since", "until"} {
		wantError(t, sh.run(t, "queue", "bounce", "--older", "1m", "--yes", "--"+flag, ""), exitUsage, "--"+flag+" is given, and empty")
		wantError(t, sh.run(t, "log", "search", "--"+flag, ""), exitUsage, "--"+flag+" is given, and empty")
	}
	for _, line := range []string{
		"log search --id", "log search --message-id", "log search --since 1d --reply",
		"queue list --at", "queue count --at", "queue count --by", "queue list --addr", "status --token-file", "snapshot save f --addr",
		"destination set one --tls", "domain set one.test --policy",
	} {
		args := strings.Fields(line)
		wantError(t, sh.run(t, append(args, "")...), exitUsage, args[len(args)-1]+" is given, and empty")
	}
	for _, command := range []string{"node drain", "node resume", "cluster transfer"} {
		wantError(t, sh.run(t, append(strings.Fields(command), "")...), exitUsage, "is given, and empty")
	}
	wantError(t, sh.run(t, "dev", "--nodes", "2"), exitUsage, "--nodes 2: want 1, or 3 to 5")
	if n := len(w.Proposed()); n != 0 {
		t.Errorf("%d events", n)
	}
	// It is a value where it ends something, or is a text; and 0 isn't empty.
	for _, line := range []string{"destination set one --auth-user", "settings set --delete-grace 0s --relay-networks", "queue hold --all --yes --reason"} {
		if r := sh.run(t, append(strings.Fields(line), "")...); r.status != exitDone {
			t.Errorf("%s: %+v", line, r)
		}
	}
}

// Deleted recipients aren't in the queue, and those that have come to another end never
// are: that there are none of them would be no answer.
func TestStatesOfTheQueue(t *testing.T) {
	w, ids := scene(t)
	sh := shellFor(w)
	if r := sh.run(t, "queue", "delete", ids["WAITING"]); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	if r := sh.run(t, "queue", "list", "--state", "deleted"); r.status != exitDone || !strings.Contains(r.out, ids["WAITING"]) {
		t.Errorf("%+v", r)
	}
	for _, line := range []string{"list --state pending,held,frozen", "count --state held,frozen"} {
		if r := sh.run(t, append([]string{"queue"}, strings.Fields(line)...)...); r.status != exitDone {
			t.Errorf("%s: %+v", line, r)
		}
	}
	for line, text := range map[string]string{
		"list --state delivered":            "`holdfast log search --state delivered` has them",
		"list --state bounced":              "`holdfast log search --state bounced` has them",
		"list --state failed":               "`holdfast log search",
		"list --state deleted,held":         "give no other state with it",
		"count --state deleted":             "`holdfast queue list --state deleted` shows those that can come back",
		"count --state dropped --to r@a.de": "`holdfast log search --state dropped` has them",
	} {
		wantError(t, sh.run(t, append([]string{"queue"}, strings.Fields(line)...)...), exitUsage, text)
	}
}

func TestOperationThatDoesNotFit(t *testing.T) {
	w, ids := scene(t)
	sh := shellFor(w)
	wantError(t, sh.run(t, "queue", "release", ids["WAITING"]), exitFailed, "is pending")
	wantError(t, sh.run(t, "queue", "hold", ids["DONE"]), exitFailed, "is delivered")
	wantError(t, sh.run(t, "queue", "hold", "01ARZ3NDEKTSV4RRFFQ69G5FAV"), exitNotFound, "no message")
	wantError(t, sh.run(t, "queue", "release", "--state", "pending", "--yes"), exitUsage, "release is for recipients that are held")
	wantError(t, sh.run(t, "queue", "redirect", "--all", "--yes", "--destination-new", "x"), exitNotFound, `no destination "x"`)
	w.LoseQuorum(admintest.ErrNoQuorum)
	wantError(t, sh.run(t, "queue", "hold", ids["WAITING"]), exitNoAnswer, "nothing was changed")
	wantError(t, sh.run(t, "queue", "hold", "--all", "--yes"), exitNoAnswer, "nothing was changed")
}
