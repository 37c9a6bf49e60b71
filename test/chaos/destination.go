package main

import (
	"sync"
	"time"

	"holdfast/test/load"
	"holdfast/test/sink"
)

// destination is the mail server behind the relay. It knows which node is in
// the middle of which transaction, since nodes say their names in EHLO.
type destination struct {
	*sink.Server
	replyAfter time.Duration // from the final dot to its reply

	mu    sync.Mutex // guards conns
	conns map[int]*transaction
}

type transaction struct {
	node string // EHLO name
	open bool   // MAIL has come
	done time.Time
}

// startDestination listens on address. The pause before each last reply keeps
// attempts in flight, as a real server that writes to its disk does.
func startDestination(address string, replyAfter time.Duration) (*destination, error) {
	d := &destination{replyAfter: replyAfter, conns: map[int]*transaction{}}
	server, err := sink.Start(sink.Config{Address: address, IDHeader: load.HeaderID, Answer: d.answer})
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
	case "RSET", "QUIT":
		t.open = false
	case sink.Dot:
		t.done = time.Now().Add(d.replyAfter)
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

// copies are the messages that arrived, by their ids, each in the order of
// arrival. Broken off transactions are none.
func (d *destination) copies() map[string][]sink.Message {
	all := map[string][]sink.Message{}
	for _, m := range d.Messages() {
		if m.Committed {
			all[m.ID] = append(all[m.ID], m)
		}
	}
	return all
}
