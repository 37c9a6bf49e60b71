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
	// ownedSince is when it became this node's.
	ownedSince time.Time

	lanes    [fsm.Lanes]lane
	kept     [fsm.Lanes]bool     // its turn has come: one of the node's attempts is kept for it
	claiming map[uint64]fsm.Lane // attempts proposed and not yet granted
	proposed bool                // a proposal of claims is under way
	pause    time.Time           // nothing is claimed before it
	running  map[uint64]*attempt
	idle     []idleConn
	closing  int                 // connections that say goodbye
	callouts map[string]*callout // by address: under way, waiting, or not yet recorded
	toAsk    []*callout          // those that wait
	calling  map[*callout]bool   // those that hold a slot
	// askedLast: the slot that was taken last went to a call-out.
	askedLast bool
	revision  int // of the configuration, to tell connections made under an earlier one
	// limit is the present concurrency, 1 to the slots.
	limit       int
	lastSuccess time.Time // of a message that was taken
	lastAnswer  time.Time // of a reply to MAIL, which proves a host up
	hosts       hostTrouble
	mx          []*pb.DestinationConfig_Host // as of the last look at the DNS
	refusals    refusals
	// silent: the latest probe said nothing to the host. The next one asks for a
	// stranger, since what waits behind that message may be of its kind. One that fails is
	// followed by a message again: a host may take that and no stranger.
	silent bool
}

func newQueue(name string, record *pb.DestinationRecord) *queue {
	return &queue{
		name: name, record: record, limit: 1, hosts: make(hostTrouble), refusals: make(refusals),
		claiming: make(map[uint64]fsm.Lane), running: make(map[uint64]*attempt),
		callouts: make(map[string]*callout), calling: make(map[*callout]bool),
	}
}

// update takes over a new record, and reports whether connections made under
// the last one, and what is asked over them, are of no use any more. After an outage concurrency begins at 1.
func (q *queue) update(record *pb.DestinationRecord) (reconfigured bool) {
	wasUp := q.up()
	if !proto.Equal(q.record.GetConfig(), record.GetConfig()) {
		reconfigured = true
		q.revision++
		clear(q.hosts)
		q.mx, q.silent = nil, false
		clear(q.refusals)
	}
	q.record = record
	switch {
	case !wasUp && q.up():
		q.limit, q.silent = 1, false
		clear(q.refusals)
		q.rewind()
	case wasUp && !q.up():
		q.rewind()
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

// learn takes note of what an attempt found out about the hosts.
func (q *queue) learn(a *attempt) {
	q.hosts.learn(a)
	if a.hosts != nil && a.revision == q.revision {
		q.mx = a.hosts
	}
}

// hostList has the hosts, as configured or as last looked up.
func (q *queue) hostList() []*pb.DestinationConfig_Host {
	if q.record.GetConfig().GetMx() != "" {
		return q.mx
	}
	return q.record.GetConfig().GetHosts()
}

// rewind makes the next look at the state begin at the head of every lane.
func (q *queue) rewind() {
	for i := range q.lanes {
		q.lanes[i].rewind()
	}
}

// outstanding claims of each lane: proposed, waiting for a slot, or in one.
func (q *queue) outstanding() perLane {
	taken := q.inSlots()
	for i := range q.lanes {
		taken[i] += q.lanes[i].claimed + len(q.lanes[i].ready)
	}
	return taken
}

// inSlots counts the attempts of each lane.
func (q *queue) inSlots() perLane {
	var taken perLane
	for i := range q.lanes {
		taken[i] = q.lanes[i].running
	}
	return taken
}

func (q *queue) empty() bool {
	return q.outstanding().all() == 0 && len(q.idle) == 0 && q.closing == 0 && len(q.callouts)+len(q.calling) == 0 && !q.proposed
}

// claim notes that a claim is proposed.
func (q *queue) claim(attempt uint64, l fsm.Lane) {
	q.claiming[attempt] = l
	q.lanes[l].claimed++
}

// claimed takes a claim off those that are proposed, and gives its lane. One
// that isn't known counts as a retry, which never takes what fresh mail has.
func (q *queue) claimed(attempt uint64) fsm.Lane {
	l, ok := q.claiming[attempt]
	if !ok {
		return fsm.LaneRetry
	}
	delete(q.claiming, attempt)
	q.lanes[l].claimed--
	return l
}

// unclaimAll gives up on claims that are proposed.
func (q *queue) unclaimAll() {
	clear(q.claiming)
	for i := range q.lanes {
		q.lanes[i].claimed = 0
	}
}

// forget drops what belongs to an incarnation that has ended.
func (q *queue) forget() {
	q.unclaimAll()
	q.rewind()
	for i := range q.lanes {
		q.lanes[i].ready, q.lanes[i].suspect = nil, nil
	}
}

// recorded ends a call-out, unless another one for the same recipient has taken its
// place.
func (q *queue) recorded(c *callout) {
	if q.callouts[c.address] == c {
		delete(q.callouts, c.address)
	}
}

// probing reports whether a probe is claimed or under way. Attempts from before
// the outage don't count: they may hang for minutes.
func (q *queue) probing() bool {
	for _, a := range q.running {
		if a.probe {
			return true
		}
	}
	for _, c := range q.callouts {
		if c.attempt != nil && c.probe {
			return true
		}
	}
	for c := range q.calling { // another one for its recipient may have taken its place
		if c.probe {
			return true
		}
	}
	return len(q.claiming) > 0 || slices.ContainsFunc(q.lanes[:], func(l lane) bool {
		return slices.ContainsFunc(l.ready, isProbe)
	})
}

// abortProbe ends a probe, which is the only one and may hang for minutes.
func (q *queue) abortProbe() {
	for _, a := range q.running {
		if a.probe {
			a.abortUnlessCommitted()
		}
	}
	for c := range q.calling {
		if c.probe {
			c.abortUnlessCommitted()
		}
	}
}

// outage is why the destination isn't up, or else what an attempt there came to.
func (q *queue) outage(a *attempt) *relay.Failure {
	if known := failureFrom(q.record.GetHealth().GetFailure()); known != nil || len(a.result.Outcomes) == 0 {
		return known
	}
	return a.result.Outcomes[0].Failure
}

func isProbe(g fsm.Grant) bool { return g.Record.Probe }

// beside is what others' attempts leave of a concurrency. An earlier owner's end soon,
// and may be all that the host takes; those that hang leave one after a while.
func (q *queue) beside(concurrency, others int, now time.Time) int {
	if now.Sub(q.ownedSince) < recentSuccess {
		return concurrency - others
	}
	return max(1, concurrency-others)
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
