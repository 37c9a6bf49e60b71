package admin

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowCluster answers a barrier after a second.
type slowCluster struct {
	Cluster
	asked atomic.Int64
	err   error
}

func (c *slowCluster) Barrier(context.Context) error {
	c.asked.Add(1)
	<-time.After(time.Second)
	return c.err
}

// However many callers ask at once, the cluster is asked by one after the other, and for
// each of them once after it came.
func TestBarriersAreShared(t *testing.T) {
	for _, want := range []error{nil, errors.New("no quorum")} {
		synctest.Test(t, func(t *testing.T) {
			c := &slowCluster{err: want}
			shared := shareBarrier(c)
			var callers sync.WaitGroup
			ask := func(after time.Duration) {
				<-time.After(after)
				began := c.asked.Load()
				if err := shared.Barrier(t.Context()); !errors.Is(err, want) {
					t.Errorf("the answer is %v", err)
				}
				if c.asked.Load() == began {
					t.Error("it was answered by what was asked before it came")
				}
			}
			for range 100 {
				callers.Go(func() { ask(0) })
				callers.Go(func() { ask(500 * time.Millisecond) })
			}
			callers.Wait()
			if n := c.asked.Load(); n > 3 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// Who gives up answers for itself alone.
func TestBarrierOfACallerThatGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slowCluster{err: context.Canceled}
		shared := shareBarrier(c)
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			if err := shared.Barrier(ctx); err == nil {
				t.Error("it has an answer")
			}
		})
		synctest.Wait()
		callers.Go(func() {
			if err := shared.Barrier(t.Context()); !errors.Is(err, context.Canceled) {
				t.Errorf("the answer is %v", err)
			}
		})
		synctest.Wait()
		cancel()
		callers.Wait()
		if n := c.asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}
