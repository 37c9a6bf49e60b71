package cluster

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// catchUps knows the followers that were sent the state and haven't reached
// the log that is kept anyway. While there is one, the log isn't truncated:
// else what was written during an install that takes longer than the trailing
// log lasts is gone when it ends, and the follower needs another one, for ever.
type catchUps struct {
	changed chan struct{} // capacity 1: what is known of a follower changed

	mu        sync.Mutex // guards followers
	followers map[raft.ServerID]*catchUp
}

// catchUp is a follower's way through the log behind the state that it got.
type catchUp struct {
	sending bool          // the state is under way
	index   uint64        // it has the log up to here
	contact time.Duration // when it acknowledged something last
}

func newCatchUps() *catchUps {
	return &catchUps{changed: make(chan struct{}, 1), followers: map[raft.ServerID]*catchUp{}}
}

// begin notes that a follower is being sent the state at index.
func (c *catchUps) begin(id raft.ServerID, index uint64, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followers[id] = &catchUp{sending: true, index: index, contact: now}
	kick(c.changed)
}

// sent notes that a follower took the state, or didn't: then raft starts over
// with a newer one.
func (c *catchUps) sent(id raft.ServerID, taken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.followers[id]; f != nil && taken {
		f.sending = false
	} else {
		delete(c.followers, id)
	}
	kick(c.changed)
}

// heard notes an acknowledgement; index is 0 for a heartbeat.
func (c *catchUps) heard(id raft.ServerID, index uint64, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.followers[id]; f != nil {
		f.index, f.contact = max(f.index, index), now
	}
}

// need reports whether a follower still needs entries before first. It forgets
// those that don't, and those that were last heard of before since: a follower
// that is gone must not keep the log from being truncated.
func (c *catchUps) need(first uint64, since time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, f := range c.followers {
		if !f.sending && f.index+1 >= first || f.contact < since {
			delete(c.followers, id)
		}
	}
	return len(c.followers) > 0
}

// forget is for a node that leads no more: it sends nobody anything.
func (c *catchUps) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.followers)
}
