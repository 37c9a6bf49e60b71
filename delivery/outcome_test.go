package delivery

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// One line for each recipient of an attempt, with the words that people search
// for.
func TestOutcomeLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	s := w.sink(sink.Config{Answer: rcpt(450, "later@example.test")})
	w.route("example.test", "dest", 5, s.Addr())
	id := w.accept(testSender, "later@example.test", "one@example.test")
	w.runAll()
	w.awaitState(id, 1, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
	w.await("the first attempt counts", func() bool { return w.recipient(id, 0).Attempts == 1 })

	lines := map[string]string{}
	for line := range strings.Lines(w.logs.String()) {
		if strings.Contains(line, "msg=attempt") {
			_, rest, _ := strings.Cut(line, " to=")
			to, _, _ := strings.Cut(rest, " ")
			lines[to] = line
		}
	}
	if len(lines) != 2 {
		t.Fatalf("%d lines for 2 recipients:\n%s", len(lines), w.logs.String())
	}
	common := []string{
		"id=" + id.String(), "from=" + testSender, "destination=dest", "relay=" + s.Addr(),
		`tls=""`, "attempt=1", "delay=", "took=",
	}
	for to, more := range map[string][]string{
		"one@example.test":   {"status=delivered", `reply="250 `},
		"later@example.test": {"status=deferred", `reply="450 4.1.1 no such place"`, "next=20"},
	} {
		for _, want := range append(more, common...) {
			if !strings.Contains(lines[to], want) {
				t.Errorf("no %s in %s", want, lines[to])
			}
		}
	}
}
