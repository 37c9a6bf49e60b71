package main

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/test/admintest"
)

func TestVersionFlag(t *testing.T) {
	if r := (shell{}).run(t, "--version"); r.status != exitDone || !strings.HasPrefix(r.out, "holdfast ") {
		t.Errorf("%+v", r)
	}
}

func TestWatch(t *testing.T) {
	w := admintest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out countingWriter
	out.after = func(n int) {
		if n == 3 {
			cancel()
		}
	}
	a := &app{in: strings.NewReader(""), out: &out, err: io.Discard, now: func() time.Time { return admintest.Now },
		env: func(string) string { return "" }, terminal: func() bool { return false }}
	if status := a.run(ctx, []string{"status", "--json", "--watch=10ms", "--addr", w.Socket}); status != exitDone {
		t.Errorf("status %d", status)
	}
	if out.lines < 3 {
		t.Errorf("%d lines", out.lines)
	}
}

// What --older picks moves on with the clock while it is watched.
func TestWatchedAgeMovesOn(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.Accept(30*time.Minute, "s@x.test", "r@one.test")
	for command, appears := range map[string]string{"list": `"recipients":`, "count": `"pending":1`} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		out := &untilWriter{text: appears, found: cancel}
		var looks atomic.Int64
		a := &app{in: strings.NewReader(""), out: out, err: io.Discard,
			now: func() time.Time { return admintest.Now.Add(time.Duration(looks.Add(1)) * time.Hour) },
			env: func(string) string { return "" }, terminal: func() bool { return false }}
		status := a.run(ctx, []string{"queue", command, "--older", "10h", "--json", "--watch=10ms", "--addr", w.Socket})
		if status != exitDone || !strings.Contains(out.all.String(), appears) {
			t.Errorf("queue %s: status %d, %q", command, status, out.all.String())
		}
	}
}

// untilWriter tells once a text was written.
type untilWriter struct {
	text  string
	found func()
	all   strings.Builder
}

func (u *untilWriter) Write(p []byte) (int, error) {
	u.all.Write(p)
	if strings.Contains(u.all.String(), u.text) {
		u.found()
	}
	return len(p), nil
}

// countingWriter tells after each line how many there were.
type countingWriter struct {
	lines int
	after func(int)
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.lines += strings.Count(string(p), "\n")
	c.after(c.lines)
	return len(p), nil
}
