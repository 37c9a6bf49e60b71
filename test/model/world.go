package model

import "fmt"

// Times are in ticks: a lease lasts one, the margin is one, and over a whole
// run clocks may drift apart by one.
const (
	leaseTicks  = 1
	marginTicks = 1
	// lateTicks is how old an answer to a ping may grow where its age matters.
	lateTicks = 2
)

// The two nodes that act. A third one only votes, so any one of them is a
// majority with it.
const (
	nodeA = iota
	nodeB
	nobody
)

var nodeNames = [...]string{"A", "B", "nobody"}

// kind is what an entry of the log says.
type kind uint8

const (
	none kind = iota
	accepted
	aborted
	claimed
	delivered
	failed
	released
	doubted // a release after the final dot: the content may have arrived
	cameUp
	wentDown
)

// ref names a claim: an incarnation of a node and a number.
type ref struct{ node, inc, number uint8 }

// entry is one event on its way into the log or in it.
type entry struct {
	kind      kind
	node, inc uint8 // the proposer's; of wentDown: whom it is about
	sequence  uint8
	lowest    uint8
	claim     ref   // of claimed and the outcomes
	replaces  uint8 // of cameUp
	saw       uint8 // of wentDown: the term in which it was decided
	term      uint8 // raft's, of the leader that took it
}

// proposal is an entry that a node hasn't learnt the outcome of.
type proposal struct {
	kind     kind
	inc      uint8 // 0: not sent in any incarnation
	sequence uint8
	lowest   uint8
	claim    ref
	replaces uint8
	flying   bool
	at       uint8 // where its copy was committed, 0: nowhere yet
}

type phase uint8

const (
	starting phase = iota // catches up, then comes up anew
	up
	paused // and will be up or starting again
)

// ping is how far a ping came.
type ping uint8

const (
	noPing ping = iota
	sent
	heard
	answered
)

const maxProposals = 5

// node is the memory of one process.
type node struct {
	phase   phase
	resumes phase // what it is after a pause
	inc     uint8 // its active incarnation, 0: none
	last    uint8 // the latest incarnation that any of its processes made
	applied uint8
	lease   uint8 // ticks left, as its own clock says
	ping    ping
	age     uint8 // of the ping
	next    uint8 // sequence
	number  uint8 // of the next claim
	open    [maxProposals]proposal
}

type stage uint8

const (
	noAttempt stage = iota
	granted         // told by the answer to the proposal; only without ruleFromApply
	running         // connected, the final dot not sent
	dotted          // the final dot sent
	took            // the remote has the message, its reply isn't read
	refused         // the remote said 4xx, the reply isn't read
	told            // the remote has the message, and the node knows it or lost it
	ended           // the remote never got it
)

// attempt is one try to deliver, as an onlooker sees it.
type attempt struct {
	claim  ref
	at     uint8 // where its claim is in the log
	stage  stage
	orphan bool // the process that made it is gone
}

const maxAttempts = 4

// client is what the sender of the message was told.
type client uint8

const (
	silent client = iota
	waiting
	got250
	got451
	hungUp // the node that it spoke to went away
)

// faults are what may still go wrong.
type faults struct{ elections, pauses, kills, downs, deadlines, hiccups, drifts uint8 }

const maxQueued = 4

// world is everything that a schedule has led to. It is comparable: two
// schedules that lead to the same world have the same future.
type world struct {
	log    logID
	term   uint8
	leader uint8
	ready  bool // past its barrier
	// queued are entries that the leader has and a majority hasn't.
	queued    [maxQueued]entry
	inherited uint8 // how many of them are from before its election
	// unheard counts ticks since a ping, as the leader sees it.
	unheard [2]uint8
	// condemned: the leader has decided NodeDown for that incarnation.
	condemned [2]uint8
	verdict   entry // a NodeDown that is decided and not in the leader's log yet
	judge     uint8 // who decided it
	deposed   uint8 // a former leader that doesn't know it
	nodes     [2]node
	attempts  [maxAttempts]attempt
	client    client
	abortLost bool // the process that owed the abort is gone
	left      faults
}

// scope is where an exploration begins and what may go wrong in it.
type scope struct {
	leader   uint8
	acceptor uint8
	faults   faults
	// fine: pings, claims and outcomes go in all their steps. Else what can't be
	// told apart by anyone goes in one (docs/model.md says what and why).
	fine bool
	// taken: the message is in the log already, and its client was told 250.
	taken bool
}

func (s scope) String() string {
	if s.taken {
		return fmt.Sprintf("%s leads, A owns the destination, the message is in the log at 1", nodeNames[s.leader])
	}
	return fmt.Sprintf("%s leads, A owns the destination, the message comes in at %s", nodeNames[s.leader], nodeNames[s.acceptor])
}

func (w *world) add(x uint8, p proposal) {
	for i := range w.nodes[x].open {
		if w.nodes[x].open[i].kind == none {
			w.nodes[x].open[i] = p
			return
		}
	}
	panic("more proposals than a node of the model can have")
}

// remove keeps the rest in order, so that equal worlds are equal.
func (n *node) remove(i int) {
	copy(n.open[i:], n.open[i+1:])
	n.open[maxProposals-1] = proposal{}
}

func (n *node) has(k kind) bool {
	for i := range n.open {
		if n.open[i].kind == k {
			return true
		}
	}
	return false
}

// lowestOpen is what the state may forget results below.
func (n *node) lowestOpen() uint8 {
	lowest := n.next
	for i := range n.open {
		if p := &n.open[i]; p.kind != none && p.inc == n.inc && p.sequence != 0 {
			lowest = min(lowest, p.sequence)
		}
	}
	return lowest
}

func (w *world) attemptOf(claim ref) *attempt {
	for i := range w.attempts {
		if a := &w.attempts[i]; a.stage != noAttempt && a.claim == claim && !a.orphan {
			return a
		}
	}
	return nil
}
