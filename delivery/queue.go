package delivery

import (
	"time"

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
	claiming map[uint64]bool // attempts proposed and not yet granted
	proposed bool            // a proposal of claims is under way
	ready    []fsm.Grant     // granted, waiting for a slot
	running  map[uint64]*attempt
	idle     []idleConn
	// limit is the present concurrency, 1 to the slots.
	limit       int
	lastSuccess time.Time
	hosts       hostTrouble
}

func newQueue(name string, record *pb.DestinationRecord) *queue {
	q := &queue{
		name: name, claiming: make(map[uint64]bool), running: make(map[uint64]*attempt),
		hosts: make(hostTrouble),
	}
	q.record = record
	q.limit = q.slots()
	return q
}

// update takes over a new record. After an outage concurrency begins at 1.
func (q *queue) update(record *pb.DestinationRecord) {
	wasUp := q.up()
	q.record = record
	switch {
	case !wasUp && q.up():
		q.limit, q.cursor = 1, nil
	case wasUp && !q.up():
		q.cursor = nil
	}
	q.limit = min(q.limit, q.slots())
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

func (q *queue) empty() bool { return q.outstanding() == 0 && len(q.idle) == 0 && !q.proposed }

// lower moves the cursor back to a row that came in behind it.
func (q *queue) lower(key fsm.QueueKey) {
	if q.cursor != nil && key.Compare(q.cursor) < 0 {
		q.cursor = key
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
