package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/password"
)

// An account from its making to its end, as its operator sees it: no command shows
// a password but once, or a hash at all.
func TestAccount(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	hash := func() string {
		t.Helper()
		record, ok := w.State.Account("app@one.test")
		if !ok {
			t.Fatal("no account app@one.test")
		}
		return record.PasswordHash
	}
	added := sh.run(t, "account", "add", "App@one.test", "--generate")
	secret := strings.TrimSpace(added.out)
	if added.status != exitDone || len(secret) < 26 || strings.Contains(added.err, secret) ||
		!strings.Contains(added.err, "account app@one.test added. Its password follows") {
		t.Fatalf("%+v", added)
	}
	if !password.Matches(hash(), secret) {
		t.Error("the state has another password")
	}
	wantError(t, sh.run(t, "account", "add", "app@one.test", "--generate"), exitFailed, "`holdfast account passwd app@one.test` gives it another password")

	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("correct horse\nbattery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := sh.run(t, "account", "passwd", "APP@one.test", "--password-file", file); r.status != exitDone || r.out != "account app@one.test has another password\n" {
		t.Errorf("%+v", r)
	}
	if !password.Matches(hash(), "correct horse") || password.Matches(hash(), secret) {
		t.Error("the old password is still the one")
	}
	for _, line := range []string{"account list", "account list --json", "export"} {
		r := sh.run(t, strings.Fields(line)...)
		if r.status != exitDone || strings.Contains(r.out, hash()) || strings.Contains(r.out, "$2") {
			t.Errorf("%s: %+v", line, r)
		}
		if shown := strings.Contains(r.out, "app@one.test"); shown != strings.HasPrefix(line, "account") {
			t.Errorf("%s: %s", line, r.out)
		}
	}
	wantJSONLines(t, sh.run(t, "account", "list", "--json").out)
	if r := sh.run(t, "account", "remove", "app@one.test"); r.status != exitDone || r.out != "account app@one.test removed\n" {
		t.Errorf("%+v", r)
	}
	if _, ok := w.State.Account("app@one.test"); ok {
		t.Error("it is still there")
	}
	for _, line := range []string{"account remove app@one.test", "account passwd app@one.test --generate"} {
		wantError(t, sh.run(t, strings.Fields(line)...), exitNotFound, "no account app@one.test; `holdfast account list` shows all")
	}
}

func TestAccountRefusals(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for line, want := range map[string]string{
		"account add":                "want one account",
		"account add a/b --generate": "want 1 to 128 letters",
		"account add ann":            "no terminal to ask",
		"account add ann --generate --password-file x":                     "give one of them",
		"account add ann --password-file /no/such":                         "--password-file: open /no/such",
		"account add ann --password-file " + file("empty", "\nx"):          "no password in its first line",
		"account add ann --password-file " + file("short", "short"):        "it has 5 bytes, want 8 to 72",
		"account add ann --password-file " + file("tab", "tabs\there too"): "control characters",
		"account add ann secret":                                           "want one account",
	} {
		wantError(t, sh.run(t, strings.Fields(line)...), exitUsage, want)
	}
}

// At a terminal the password is asked for twice and is no part of what is shown.
func TestPasswordIsAskedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		answers []string
		want    string
		fails   string
	}{
		"twice":       {[]string{"correct horse", "correct horse"}, "correct horse", ""},
		"differently": {[]string{"correct horse", "correct hoarse"}, "", "differ"},
		"interrupted": {[]string{"correct horse"}, "", "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			var shown strings.Builder
			a := &app{err: &shown, terminal: func() bool { return true }}
			a.unseen = func(context.Context) (string, error) {
				if len(tt.answers) == 0 {
					return "", context.Canceled
				}
				answer := tt.answers[0]
				tt.answers = tt.answers[1:]
				return answer, nil
			}
			got, err := a.newPassword(t.Context(), newPasswordFlags{})
			if got != tt.want || (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%q, %v", got, err)
			}
			if name == "interrupted" && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if shown.String() != "Password: \nOnce more: \n" {
				t.Errorf("shown: %q", shown.String())
			}
		})
	}
}
