package smtpd

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"holdfast/netlimit"
	"holdfast/password"
)

// guesses bounds what clients that try passwords cost: so many are judged at a
// time on the whole node, and of one client's address one, which waits a while
// after a wrong one. The others queue, in the order in which they came.
type guesses struct {
	slots    chan struct{}
	patience time.Duration // for a turn and a slot together
	pause    time.Duration // after a wrong one
	matches  func(hash, given string) bool
	ended    func() context.Context // when nobody is to wait any more

	mu    sync.Mutex // guards turns
	turns map[netip.Prefix]*turn
}

// turn is one address's. It is there while anybody has it or waits for it.
type turn struct {
	taken chan struct{}
	users int
}

func newGuesses(cfg *Config, ended func() context.Context) *guesses {
	return &guesses{
		slots: make(chan struct{}, cfg.GuessSlots), patience: cfg.GuessPatience, pause: cfg.GuessPause,
		matches: password.Matches, ended: ended, turns: map[netip.Prefix]*turn{},
	}
}

// judge reports whether a password matches the hash that find has when nothing is
// left to wait for: a hash that was read earlier might have been replaced since. It
// isn't judged where the turn or a slot doesn't come in time, or find has none to
// vouch for.
func (g *guesses) judge(client netip.Addr, given string, find func() (hash string, ok bool)) (right, judged bool) {
	key := netlimit.Client(client)
	t := g.join(key)
	defer g.leave(key, t)
	ctx, cancel := context.WithTimeout(g.ended(), g.patience)
	defer cancel()
	if !take(ctx, t.taken) {
		return false, false
	}
	defer func() { <-t.taken }()
	right, judged = g.inSlot(ctx, given, find)
	if judged && !right {
		g.wait()
	}
	return right, judged
}

// inSlot gives the slot back whatever happens: a panic ends its session only.
func (g *guesses) inSlot(ctx context.Context, given string, find func() (string, bool)) (right, judged bool) {
	if !take(ctx, g.slots) {
		return false, false
	}
	defer func() { <-g.slots }()
	hash, ok := find()
	if !ok {
		return false, false
	}
	return g.matches(hash, given), true
}

// take fills a place in a channel; those that wait get theirs in the order in
// which they came.
func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// wait holds the turn for the pause, unless the server ends.
func (g *guesses) wait() {
	timer := time.NewTimer(g.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.ended().Done():
	}
}

func (g *guesses) join(key netip.Prefix) *turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.turns[key]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		g.turns[key] = t
	}
	t.users++
	return t
}

func (g *guesses) leave(key netip.Prefix, t *turn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(g.turns, key)
	}
}
