// Package loglimit bounds log lines that anybody can cause, so that nobody fills
// the disk with them: beyond so many a second they are counted, and the count is
// a line of its own at the end of that second.
package loglimit

import (
	"log/slog"
	"sync"
	"time"
)

// PerSecond lines are written one by one.
const PerSecond = 50

// Lines bounds the lines about refusals of one logger. Close it: it may have
// something to say yet.
type Lines struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex // guards the fields below
	second time.Time
	lines  int
	unsaid int
	atEnd  *time.Timer // of the second; there is one while something is unsaid
	closed bool
}

// New bounds what is written to log, which also gets the counts.
func New(log *slog.Logger, now func() time.Time) *Lines { return &Lines{log: log, now: now} }

// Admit reports whether one more line may be written now: none once it is closed.
func (l *Lines) Admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	now := l.now()
	if second := now.Truncate(time.Second); !second.Equal(l.second) {
		l.say()
		l.second, l.lines = second, 0
	}
	if l.lines++; l.lines <= PerSecond {
		return true
	}
	l.unsaid++
	if l.atEnd == nil {
		l.atEnd = time.AfterFunc(l.second.Add(time.Second).Sub(now), l.end)
	}
	return false
}

// end is the end of a second, whether or not another line follows.
func (l *Lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say()
}

// Close says what is unsaid. Nothing is admitted or counted afterwards.
func (l *Lines) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say()
	l.closed = true
}

// say wants mu held. Where the timer fires as it is stopped, end finds nothing to
// say.
func (l *Lines) say() {
	if l.atEnd != nil {
		l.atEnd.Stop()
		l.atEnd = nil
	}
	if l.unsaid > 0 {
		l.log.Warn("refusals not logged one by one", "refusals", l.unsaid, "since", l.second)
		l.unsaid = 0
	}
}
