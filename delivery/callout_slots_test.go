package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// Any number of clients that ask for one recipient cost one dialogue, and dialogues
// take at most a quarter of the slots, which mail can't exceed with them.
func TestCalloutsShareSlots(t *testing.T) {
	const slots = 8
	w := newWorld(t, "a")
	hold := make(chan struct{})
	var seen askedFor
	var holding atomic.Bool
	var dots atomic.Int32
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		seen.note(step)
		switch {
		case step.Verb == "RCPT" && strings.HasPrefix(step.Address, "asked"):
			return sink.Reply{Hold: hold}
		case step.Verb == sink.Dot && holding.Load():
			dots.Add(1)
			return sink.Reply{Hold: hold}
		}
		return sink.Reply{}
	}})
	w.verifying(slots, s.Addr())
	w.runAll()
	// Each delivery lets concurrency rise.
	w.acceptMany(3*slots, "example.test")
	w.awaitDelivered("dest", 3*slots)
	holding.Store(true)
	var asking sync.WaitGroup
	for i := range 60 {
		asking.Go(func() {
			if said, err := w.ask(fmt.Sprintf("asked%d@example.test", i%6), false); err != nil || said.Verdict == pb.Verdict_VERDICT_INVALID {
				t.Errorf("%v, %v", said, err)
			}
		})
	}
	underWay := func() []string { return slices.DeleteFunc(seen.list(), isMail) }
	// Mail that comes first would have all slots, and keep them as it is held too.
	w.await("call-outs have their share", func() bool { return len(underWay()) >= slots/calloutShare })
	w.acceptMany(3*slots, "example.test")
	// More can't be: what follows would be seen in MaxOpen.
	w.await("all slots are in use", func() bool { return int(dots.Load())+len(underWay()) == slots })
	callouts := underWay()
	if len(callouts) != slots/calloutShare {
		t.Errorf("call-outs under way: %q", callouts)
	}
	close(hold)
	asking.Wait()
	w.awaitDelivered("dest", 6*slots)
	if open := s.Stats().MaxOpen; open > slots {
		t.Errorf("%d connections at a time, %d slots", open, slots)
	}
	all := underWay()
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("asked twice: %q", all)
	}
}

// Where there is one slot, call-outs without end don't keep mail from it.
func TestCalloutsLeaveMailItsTurn(t *testing.T) {
	w := newWorld(t, "a")
	s := w.sink(sink.Config{Answer: (&askedFor{}).selective("rcpt@example.test")})
	w.verifying(1, s.Addr())
	w.runAll()
	ctx, cancel := context.WithCancel(w.ctx)
	var asking sync.WaitGroup
	for i := range 4 {
		asking.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, _ = w.owner("dest").scheduler.Ask(ctx, "dest", fmt.Sprintf("guess%d.%d@example.test", i, n), false)
			}
		})
	}
	for range 10 {
		w.accept("sender@example.org", "rcpt@example.test")
	}
	w.awaitDelivered("dest", 10)
	cancel()
	asking.Wait()
	if open := s.Stats().MaxOpen; open > 1 {
		t.Errorf("%d connections at a time", open)
	}
}

// Mail that is slow, and mail that waits for it, keep no call-out from the other slots.
func TestCalloutsPassSlowMail(t *testing.T) {
	w := newWorld(t, "a")
	hold := make(chan struct{})
	var dots atomic.Int32
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		if step.Verb == sink.Dot {
			dots.Add(1)
			return sink.Reply{Hold: hold}
		}
		return sink.Reply{}
	}})
	w.verifying(8, s.Addr())
	w.runAll()
	w.acceptMany(2, "example.test")
	w.await("one is under way, and one is claimed", func() bool { return dots.Load() == 1 && w.claims("dest") == 2 })
	for i := range 3 {
		if _, err := w.ask(fmt.Sprintf("user%d@example.test", i), false); err != nil {
			t.Errorf("beside slow mail: %v", err)
		}
	}
	close(hold)
	w.awaitDelivered("dest", 2)
}

// Call-outs to a destination that hasn't answered lately go one by one, as mail does.
func TestCalloutPlaces(t *testing.T) {
	for name, tt := range map[string]struct {
		slots  uint32
		answer time.Duration // before now
		want   int
	}{
		"never heard of": {20, 1000 * time.Hour, 1},
		"just now":       {20, 0, 5},
		"long ago":       {20, recentSuccess, 1},
		"few slots":      {3, 0, 1},
	} {
		q := upQueue(tt.slots)
		q.lastAnswer = base.Add(-tt.answer)
		q.calling[&callout{attempt: &attempt{revision: -1}}] = true // to hosts of before
		got := 0
		for ; q.mayCallOut(base); got++ {
			q.calling[&callout{attempt: &attempt{}}] = true
		}
		if got != tt.want {
			t.Errorf("%s: %d at a time, want %d", name, got, tt.want)
		}
	}
}

// A call-out that takes long leaves mail its concurrency, whatever that has come to.
func TestCalloutLeavesMailItsConcurrency(t *testing.T) {
	w := newWorld(t, "a")
	hold := make(chan struct{})
	defer close(hold)
	var seen askedFor
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		seen.note(step)
		if step.Verb == "RCPT" && !isMail(step.Address) {
			return sink.Reply{Hold: hold}
		}
		return sink.Reply{}
	}})
	w.verifying(20, s.Addr())
	w.runAll()
	ctx, cancel := context.WithCancel(w.ctx)
	var asking sync.WaitGroup
	asking.Go(func() { _, _ = w.owner("dest").scheduler.Ask(ctx, "dest", "asked@example.test", false) })
	w.await("it is asked for", func() bool { return slices.Contains(seen.list(), "asked@example.test") })
	w.accept("sender@example.org", "rcpt@example.test")
	w.awaitDelivered("dest", 1)
	cancel()
	asking.Wait()
}
