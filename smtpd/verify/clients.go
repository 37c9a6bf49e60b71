package verify

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What one client, by its address, or whoever administers, by name, may ask of
// destinations through this node: so many at a time, and so many in the long run with
// so many ahead of it. Who fishes for addresses gets 4xx beyond; a server that sends
// mail to many new recipients gets them verified when it comes again.
const (
	askingAtOnce = 10
	askingRate   = rate.Limit(10) // a second
	askingBurst  = 200
	// sweepAbove so many clients those are forgotten that ask for nothing.
	sweepAbove = 1000
)

// clients counts what is asked on behalf of each.
type clients struct {
	now func() time.Time

	mu   *sync.Mutex // guards each
	each map[string]*client
}

type client struct {
	asking int
	rate   *rate.Limiter
}

func newClients(now func() time.Time) clients {
	return clients{now: now, mu: new(sync.Mutex), each: make(map[string]*client)}
}

// enter takes one question of a client's share; leave gives its place back.
func (c *clients) enter(who string) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	one := c.each[who]
	if one == nil {
		c.sweep(now)
		one = &client{rate: rate.NewLimiter(askingRate, askingBurst)}
		c.each[who] = one
	}
	if one.asking >= askingAtOnce || !one.rate.AllowN(now, 1) {
		return nil, false
	}
	one.asking++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		one.asking--
	}, true
}

// sweep forgets clients that might as well be new.
func (c *clients) sweep(now time.Time) {
	if len(c.each) < sweepAbove {
		return
	}
	for key, one := range c.each {
		if one.asking == 0 && one.rate.TokensAt(now) >= askingBurst {
			delete(c.each, key)
		}
	}
}
