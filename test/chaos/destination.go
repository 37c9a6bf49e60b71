package main

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/test/load"
	"holdfast/test/sink"
)

const (
	stallBuffer = 128 << 10
	// longSize is more than the buffers of a connection take: 128 KiB here and at
	// most 4 MiB at the sender, as net.ipv4.tcp_wmem has it unless it was changed.
	longSize = 8 << 20
)

// destination is the mail server behind the relay. It knows which node is in
// the middle of which transaction, since nodes say their names in EHLO.
type destination struct {
	*sink.Server
	replyAfter time.Duration // from the final dot to its reply

	mu       sync.Mutex // guards all below
	conns    map[int]*transaction
	grip     *grip // nil while no node's transactions are held
	arrivals []sent
	released time.Time // when the last grip ended
}

type transaction struct {
	node string // EHLO name
	open bool   // MAIL has come
	done time.Time
	id   string // of the message
	size int    // that MAIL declared
}

// sent is a content that came to its end.
type sent struct {
	node, id string
	at       time.Time
	held     bool // its reply was held
}

// grip holds a node's transactions where they are.
type grip struct {
	node    string
	content bool // in the middle of the content; else when it is complete
	release chan struct{}
	conns   map[int]int // size of the message by connection held
}

// startDestination listens on address. The pause before each last reply keeps
// attempts in flight, as a real server that writes to its disk does.
func startDestination(address string, replyAfter time.Duration) (*destination, error) {
	d := &destination{replyAfter: replyAfter, conns: map[int]*transaction{}}
	server, err := sink.Start(sink.Config{
		Address: address, IDHeader: load.HeaderID, Answer: d.answer,
		// DATA can be stalled; a small buffer leaves most of a long content with
		// the client then.
		Offer: sink.OfferWithout("CHUNKING"), ReadBuffer: stallBuffer,
	})
	if err != nil {
		return nil, err
	}
	d.Server = server
	return d, nil
}

func (d *destination) answer(step sink.Step) sink.Reply {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.conns[step.Conn]
	if t == nil {
		t = &transaction{}
		d.conns[step.Conn] = t
	}
	switch step.Verb {
	case "EHLO", "HELO":
		t.node = step.Args
	case "MAIL":
		t.open, t.done = true, time.Time{}
		t.id, _, _ = strings.Cut(step.Address, "@")
		t.size = declaredSize(step.Args)
	case "DATA":
		if g := d.gripOf(t.node, true); g != nil && (t.size >= longSize || g.short() < g.long()) {
			g.conns[step.Conn] = t.size
			return sink.Reply{Stall: g.release}
		}
	case "RSET", "QUIT":
		t.open = false
	case sink.Dot:
		t.done = time.Now().Add(d.replyAfter)
		g := d.gripOf(t.node, false)
		d.arrivals = append(d.arrivals, sent{node: t.node, id: t.id, at: time.Now(), held: g != nil})
		if g != nil {
			g.conns[step.Conn] = t.size
			return sink.Reply{Hold: g.release}
		}
		return sink.Reply{Delay: d.replyAfter}
	}
	return sink.Reply{}
}

// inFlight counts the transactions that a node has open.
func (d *destination) inFlight(hostname string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, now := 0, time.Now()
	for _, t := range d.conns {
		if t.node == hostname && t.open && (t.done.IsZero() || now.Before(t.done)) {
			n++
		}
	}
	return n
}

func declaredSize(args string) int {
	for word := range strings.FieldsSeq(args) {
		if size, found := strings.CutPrefix(word, "SIZE="); found {
			n, err := strconv.Atoi(size)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

// gripOf wants mu held.
func (d *destination) gripOf(node string, content bool) *grip {
	if d.grip != nil && d.grip.node == node && d.grip.content == content {
		return d.grip
	}
	return nil
}

// hold keeps a node's transactions from now on where content says, until
// letGo.
func (d *destination) hold(node string, content bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.grip = &grip{node: node, content: content, release: make(chan struct{}), conns: map[int]int{}}
}

// letGo ends the grip; doing it again does nothing.
func (d *destination) letGo() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.grip != nil {
		close(d.grip.release)
		d.grip, d.released = nil, time.Now()
	}
}

// letGoAt is when the last grip ended.
func (d *destination) letGoAt() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.released
}

// held counts the transactions in the grip, and those with a content that the
// node can't have sent to its end.
func (d *destination) held() (all, long int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.grip == nil {
		return 0, 0
	}
	return len(d.grip.conns), d.grip.long()
}

func (g *grip) long() int {
	n := 0
	for _, size := range g.conns {
		if size >= longSize {
			n++
		}
	}
	return n
}

// short ones are held only where a long one is already: they would take all
// slots before it comes.
func (g *grip) short() int { return len(g.conns) - g.long() }

// nodes names the node behind each connection so far.
func (d *destination) nodes() map[int]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := map[int]string{}
	for number, t := range d.conns {
		names[number] = t.node
	}
	return names
}

// arrivedFrom lists the contents that a node sent to their end between two
// times, but for those in
// its grip.
func (d *destination) arrivedFrom(node string, from, to time.Time) []sent {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []sent
	for _, a := range d.arrivals {
		if a.node == node && !a.held && a.at.After(from) && a.at.Before(to) {
			all = append(all, a)
		}
	}
	return all
}
