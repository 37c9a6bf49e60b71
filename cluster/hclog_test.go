package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
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

// At the level that nodes run with, raft says only what an operator may have to
// act on.
func TestRaftSpeaksSoftly(t *testing.T) {
	var out lockedBuffer
	logger := newHCLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})), time.Now)
	logger.Info("entering follower state")
	logger.Error(brokenPeer, "error", "connection reset by peer")
	if out.String() != "" {
		t.Errorf("chatter: %s", out.String())
	}
	logger.Warn("heartbeat timeout reached")
	logger.Error("failed to take snapshot")
	if got := out.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "level=ERROR") {
		t.Errorf("lost: %s", got)
	}
}
