package cluster

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// wallClock is the time of day that a node stamps events with. While the wall
// clock is apart from the time of the cluster, or has just moved against the
// monotonic clock and nobody has confirmed it, the time goes on by the monotonic
// clock: a clock that jumps by days must not end mail, nor make it wait.
type wallClock struct {
	wall      func() time.Time
	monotonic func() time.Duration
	limit     time.Duration // how far it may be from what is known
	log       *slog.Logger

	mu sync.Mutex // guards the fields below
	// zero is the time of day at the zero of the monotonic clock, in nanoseconds
	// since 1970.
	zero  time.Duration
	wrong bool // it was said in the log
}

func newWallClock(wall func() time.Time, monotonic func() time.Duration, limit time.Duration, log *slog.Logger) *wallClock {
	c := &wallClock{wall: wall, monotonic: monotonic, limit: limit, log: log}
	_, _, c.zero = c.read()
	return c
}

// read reads both clocks, again where the process stood still in between.
func (c *wallClock) read() (wall time.Time, steady, zero time.Duration) {
	for {
		steady, wall = c.monotonic(), c.wall()
		if c.monotonic()-steady <= c.limit {
			return wall, steady, time.Duration(wall.UnixNano()) - steady
		}
	}
}

// now is the time of day.
func (c *wallClock) now() time.Time {
	wall, steady, zero := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.follow(zero) != 0 {
		return time.Unix(0, int64(c.zero+steady))
	}
	return wall
}

// follow takes the wall clock's zero over if it is near the one that is known,
// since clocks are slewed, and returns by how much it is apart if not. Guarded
// by mu.
func (c *wallClock) follow(zero time.Duration) (apart time.Duration) {
	apart = zero - c.zero
	if apart.Abs() > c.limit {
		if !c.wrong {
			c.wrong = true
			c.log.Warn("the wall clock is wrong: this node stamps with the time of the cluster, and claims, expires and accepts nothing until the clock is set right", "apart", apart.Round(time.Millisecond))
		}
		return apart
	}
	c.zero = zero
	if c.wrong {
		c.wrong = false
		c.log.Info("the wall clock is right again")
	}
	return 0
}

// agree takes the cluster's time as of a time of the monotonic clock. The wall
// clock counts again where it is near that, however it came there.
func (c *wallClock) agree(clusterTime int64, at time.Duration) {
	_, _, zero := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.zero = time.Duration(clusterTime) - at
	c.follow(zero)
}

// trouble says what is wrong with the wall clock, nil for nothing.
func (c *wallClock) trouble() error {
	_, _, zero := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if apart := c.follow(zero); apart != 0 {
		return fmt.Errorf("the wall clock of this node is wrong by %s: set it right", apart.Round(time.Millisecond))
	}
	return nil
}

// Now is the time of day by the cluster: what this node stamps events with.
func (c *Cluster) Now() time.Time { return c.clock.now() }
