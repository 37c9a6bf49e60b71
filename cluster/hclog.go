package cluster

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// newHCLog gives raft and its log store a logger that writes to ours.
func newHCLog(logger *slog.Logger, now func() time.Time) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off, Output: io.Discard})
	l.RegisterSink(&hclogSink{logger: logger, now: now, last: map[string]time.Time{}})
	return l
}

// repeatAfter is how long a warning of raft's isn't repeated: it writes one
// for every failed heartbeat.
const repeatAfter = 10 * time.Second

type hclogSink struct {
	logger *slog.Logger
	now    func() time.Time

	mu   sync.Mutex
	last map[string]time.Time // by message, which raft has a fixed set of
}

// brokenPeer is what raft calls an error when a peer hangs up in the middle of
// a call: each stop of another node brings a few.
const brokenPeer = "failed to decode incoming command"

// Accept implements hclog.SinkAdapter. What raft tells in passing is for
// debugging: this package says in its own words who leads and who is up.
func (s *hclogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if level == hclog.Info || msg == brokenPeer {
		level = hclog.Debug
	}
	if level >= hclog.Warn && s.repeated(msg) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	switch {
	case level <= hclog.Debug:
		s.logger.Debug(msg, args...)
	case level == hclog.Warn:
		s.logger.Warn(msg, args...)
	default:
		s.logger.Error(msg, args...)
	}
}

func (s *hclogSink) repeated(msg string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if last, ok := s.last[msg]; ok && now.Sub(last) < repeatAfter {
		return true
	}
	s.last[msg] = now
	return false
}
