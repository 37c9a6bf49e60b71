package loglimit

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLinesAreBounded(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1_700_000_000, 0)
	l := New(slog.New(slog.NewTextHandler(&out, nil)).With("component", "x"), func() time.Time { return now })
	admitted := 0
	for range 3 * PerSecond {
		if l.Admit() {
			admitted++
		}
	}
	if admitted != PerSecond || out.Len() > 0 {
		t.Errorf("%d lines in a second, want %d; the log says %q", admitted, PerSecond, out.String())
	}
	now = now.Add(time.Second)
	if !l.Admit() {
		t.Error("nothing is logged in the next second")
	}
	for _, part := range []string{"level=WARN", `msg="refusals not logged one by one"`, "refusals=100", "component=x"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %s in %q", part, out.String())
		}
	}
}
