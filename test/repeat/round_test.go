package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// script is a job that runs a shell script in a folder of its own.
func script(t *testing.T, name, text string) job {
	t.Helper()
	dir := t.TempDir()
	j := job{name: name, folder: dir, binary: filepath.Join(t.TempDir(), name)}
	if err := os.WriteFile(j.binary, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return j
}

func TestRound(t *testing.T) {
	first, last := script(t, "first", "echo ran >ran"), script(t, "last", "echo ran >ran")
	r := round{together: []job{first}, after: []job{last}}
	var out bytes.Buffer
	for range 2 {
		if err := r.run(t.Context(), 1, &out); err != nil {
			t.Fatal(err)
		}
	}
	for _, j := range []job{first, last} {
		if _, err := os.Stat(filepath.Join(j.folder, "ran")); err != nil {
			t.Errorf("%s didn't run in its folder: %v", j.name, err)
		}
	}
	if got := strings.Count(out.String(), "ok "); got != 4 {
		t.Errorf("%d lines, want 4: %s", got, out.String())
	}
}

// The first failure ends what runs beside it, and nothing is begun after it.
func TestFirstFailureEndsTheRound(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	if err := syscall.Mkfifo(begun, 0o600); err != nil {
		t.Fatal(err)
	}
	hangs := script(t, "hangs", "echo >"+begun+"; exec sleep 60")
	fails := script(t, "fails", "cat "+begun+"; echo what went wrong; exit 3")
	never := script(t, "never", "echo ran >ran")
	after := script(t, "after", "echo ran >ran")
	r := round{together: []job{hangs, fails, never}, after: []job{after}}
	var out bytes.Buffer
	err := r.run(t.Context(), 2, &out)
	if err == nil || !strings.Contains(err.Error(), "fails: exit status 3") || !strings.Contains(err.Error(), "what went wrong") {
		t.Errorf("error %v", err)
	}
	for _, j := range []job{never, after} {
		if _, err := os.Stat(filepath.Join(j.folder, "ran")); err == nil {
			t.Errorf("%s ran after the failure", j.name)
		}
	}
	if out.Len() > 0 {
		t.Errorf("it says %q", out.String())
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-n", "2", "-plain", "./a ./b"})
	if err != nil || o.rounds != 2 || len(o.plain) != 2 || len(o.packages) != 1 || o.packages[0] != "./..." {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse([]string{"./fsm", "./relay"}); err != nil || len(o.packages) != 2 {
		t.Errorf("packages %q, %v", o.packages, err)
	}
	for _, args := range [][]string{{"-n", "0"}, {"-p", "0"}, {"-nothing"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
