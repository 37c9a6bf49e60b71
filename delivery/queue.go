package delivery

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// queue is what the scheduler knows of one destination: a window on its due
// messages, never all of them.
type queue struct {
	name   string
	record *pb.DestinationRecord
	owned  bool

	cursor   fsm.QueueKey    // where the next look at the state begins; nil: at the head
	suspect  *fsm.Due        // a row that the cursor has passed, unless the feed still tells of it
	claiming map[uint64]bool // attempts proposed and not yet granted
	proposed bool            // a proposal of claims is under way
	pause    time.Time       // nothing is claimed before it
	ready    []fsm.Grant     // granted, waiting for a slot
	running  map[uint64]*attempt
	idle     []idleConn
	closing  int // connections that say goodbye
	revision int // of the configuration, to tell connections made under an earlier one
	// limit is the present concurrency, 1 to the slots.
	limit       int
	lastSuccess time.Time
	hosts       hostTrouble
}

func newQueue(name string, record *pb.DestinationRecord) *queue {
	return &queue{
		name: name, record: record, limit: 1, hosts: make(hostTrouble),
		claiming: make(map[uint64]bool), running: make(map[uint64]*attempt),
	}
}

// update takes over a new record, and reports whether connections made under
// the last one are of no use any more. After an outage concurrency begins at 1.
func (q *queue) update(record *pb.DestinationRecord) (reconfigured bool) {
	wasUp := q.up()
	if !proto.Equal(q.record.GetConfig(), record.GetConfig()) {
		reconfigured = true
		q.revision++
		clear(q.hosts)
	}
	q.record = record
	switch {
	case !wasUp && q.up():
		q.limit, q.cursor = 1, nil
	case wasUp && !q.up():
		q.cursor = nil
	}
	q.limit = min(q.limit, q.slots())
	return reconfigured
}

func (q *queue) up() bool {
	return q.record.GetHealth().GetState() == pb.DestinationHealth_STATE_UP
}

func (q *queue) slots() int {
	if n := int(q.record.GetConfig().GetSlots()); n > 0 {
		return n
	}
	return relay.DefaultSlots
}

// outstanding claims: proposed, waiting for a slot, or in one.
func (q *queue) outstanding() int {
	return len(q.claiming) + len(q.ready) + len(q.running)
}

func (q *queue) empty() bool {
	return q.outstanding() == 0 && len(q.idle) == 0 && q.closing == 0 && !q.proposed
}

// probing reports whether a probe is claimed or under way. Attempts from before
// the outage don't count: they may hang for minutes.
func (q *queue) probing() bool {
	for _, a := range q.running {
		if a.probe {
			return true
		}
	}
	return len(q.claiming) > 0 || slices.ContainsFunc(q.ready, isProbe)
}

func isProbe(g fsm.Grant) bool { return g.Record.Probe }

// passed reports whether the next look at the state would miss a row.
func (q *queue) passed(key fsm.QueueKey) bool {
	return q.up() && q.cursor != nil && key.Compare(q.cursor) < 0
}

// lower moves the cursor back to a row that came in behind it.
func (q *queue) lower(key fsm.QueueKey) {
	if q.cursor != nil && key.Compare(q.cursor) < 0 {
		q.cursor = key
	}
	if q.suspect != nil && key.Compare(q.suspect.Key) <= 0 {
		q.suspect = nil
	}
}

// settleDown begins at a concurrency of 1 again where nothing was delivered
// lately: a burst against a host's own limit would else look like an outage.
func (q *queue) settleDown(now time.Time) {
	if len(q.running) == 0 && now.Sub(q.lastSuccess) >= recentSuccess {
		q.limit = 1
	}
}

// succeeded lets concurrency rise by one: each round of successes doubles it.
func (q *queue) succeeded(now time.Time) {
	q.lastSuccess = now
	q.limit = min(q.slots(), q.limit+1)
}

// congested lowers concurrency below what the host has just refused.
func (q *queue) congested() {
	q.limit = max(1, min(q.limit, len(q.running))-1)
}
