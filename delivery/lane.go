package delivery

import (
	"time"

	"holdfast/fsm"
)

// lane is what the scheduler knows of one lane of a queue.
type lane struct {
	cursor  fsm.QueueKey // where the next look at the state begins; nil: at the head
	quiet   time.Time    // nothing behind the cursor is due before it
	suspect *fsm.Due     // a row that the cursor has passed, unless the feed still tells of it
	claimed int          // claims proposed and not yet granted
	ready   []fsm.Grant  // granted, waiting for a slot
	running int
}

// forever is the quiet of a lane that has nothing behind its cursor.
const forever = 100 * 365 * 24 * time.Hour

// rewind makes the next look begin at the head.
func (l *lane) rewind() { l.cursor, l.quiet = nil, time.Time{} }

// passed reports whether the next look at the state would miss a row.
func (l *lane) passed(key fsm.QueueKey) bool {
	return l.cursor != nil && key.Compare(l.cursor) < 0
}

// lower takes note of rows that came in, the first of them at key.
func (l *lane) lower(key fsm.QueueKey) {
	l.quiet = time.Time{}
	if l.passed(key) {
		l.cursor = key
	}
	if l.suspect != nil && key.Compare(l.suspect.Key) <= 0 {
		l.suspect = nil
	}
}

// perLane has a number for each lane.
type perLane [fsm.Lanes]int

func (p perLane) late() int { return p[fsm.LaneRetry] + p[fsm.LaneLast] }
func (p perLane) all() int  { return p[fsm.LaneFresh] + p.late() }

// room is how many more of a lane may join those that have taken some of n
// places. What isn't fresh takes at most half of them, whether something fresh
// waits or not: a retry may hold its place for minutes, and what comes in
// meanwhile is to find one free. The other half of a single place is none, so a
// retry there doesn't count for fresh mail, up to most places in all.
func room(l fsm.Lane, taken perLane, n, most int) int {
	if n <= 0 {
		return 0
	}
	if l == fsm.LaneFresh {
		return min(n-min(taken.late(), n/2)-taken[fsm.LaneFresh], most-taken.all())
	}
	return min(max(1, n/2)-taken.late(), n-taken.all())
}
