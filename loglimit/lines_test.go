package loglimit

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// written is what the log says; the end of a second writes, too.
type written struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func TestLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // else a second may end in between
		var out written
		now := time.Unix(1_700_000_000, 0)
		l := New(slog.New(slog.NewTextHandler(&out, nil)).With("component", "x"), func() time.Time { return now })
		defer l.Close()
		admitted := 0
		for range 3 * PerSecond {
			if l.Admit() {
				admitted++
			}
		}
		if admitted != PerSecond || out.String() != "" {
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
	})
}

// A flood that ends within its second is counted at the end of that second, with no
// line after it, and once. One that goes on is counted second by second.
func TestCountIsSaidAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out written
		l := New(slog.New(slog.NewTextHandler(&out, nil)), time.Now)
		defer l.Close()
		flood := func() {
			for range 3 * PerSecond {
				l.Admit()
			}
		}
		flood()
		if out.String() != "" {
			t.Errorf("within the second: %q", out.String())
		}
		pass := func() {
			<-time.After(time.Second)
			synctest.Wait()
		}
		pass()
		if said := strings.Count(out.String(), "refusals=100"); said != 1 {
			t.Errorf("said %d times at the end of the second: %q", said, out.String())
		}
		pass()
		flood()
		pass()
		if said := strings.Count(out.String(), "refusals=100"); said != 2 {
			t.Errorf("said %d times after two floods: %q", said, out.String())
		}
	})
}

// What is unsaid as a program ends is said then, and no timer outlives it.
func TestCloseSaysTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out written
		l := New(slog.New(slog.NewTextHandler(&out, nil)), time.Now)
		for range PerSecond + 2 {
			l.Admit()
		}
		l.Close()
		for range 2 { // the second one in another second
			for range 2 * PerSecond {
				if l.Admit() {
					t.Fatal("a line is admitted after the end")
				}
			}
			<-time.After(time.Hour)
			synctest.Wait()
		}
		l.Close()
		if said := strings.Count(out.String(), "not logged"); said != 1 || !strings.Contains(out.String(), "refusals=2") {
			t.Errorf("%q", out.String())
		}
	})
}
