package main

import (
	"context"
	"io"
	"strings"
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
