// Package loglimit bounds log lines that anybody can cause, so that nobody fills
// the disk with them: beyond so many a second they are counted, and the count is
// a line of its own when the next second has one.
package loglimit

import (
	"log/slog"
	"sync"
	"time"
)

// PerSecond lines are written one by one.
const PerSecond = 50

// Lines bounds the lines about refusals of one logger.
type Lines struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex // guards the fields below
	second time.Time
	lines  int
	unsaid int
}

// New bounds what is written to log, which also gets the counts.
func New(log *slog.Logger, now func() time.Time) *Lines { return &Lines{log: log, now: now} }

// Admit reports whether one more line may be written now.
func (l *Lines) Admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if second := l.now().Truncate(time.Second); !second.Equal(l.second) {
		if l.unsaid > 0 {
			l.log.Warn("refusals not logged one by one", "refusals", l.unsaid, "since", l.second)
		}
		l.second, l.lines, l.unsaid = second, 0, 0
	}
	if l.lines++; l.lines > PerSecond {
		l.unsaid++
		return false
	}
	return true
}
