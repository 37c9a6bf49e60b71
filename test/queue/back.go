package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/test/sink"
)

// What is promised of a destination that comes back.
const (
	fullSlotsIn = 10 * time.Second
	// probeLate is what a probe may come after its interval: claim, connection.
	probeLate = 3 * time.Second
	// oneMessage is what the mail server takes for one.
	oneMessage = 200 * time.Millisecond
)

// comesBack starts the mail server, and measures how long the first delivery
// and the full slots take. The server goes when then has returned.
func (w *world) comesBack(ctx context.Context, then func(context.Context, *sink.Server) error) (err error) {
	due, err := w.nextProbe(ctx)
	if err != nil {
		return err
	}
	// A real server needs a moment for each message: without it a slot is free
	// again before the next one is needed.
	moment := sink.On(sink.Dot, sink.Reply{Delay: oneMessage})
	server, err := sink.Start(sink.Config{Address: w.next, Recording: sink.RecordCount, Answer: moment})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	up := time.Now()
	wait := due.Sub(up)
	w.Say("the destination is back; its next probe is due in %.1f s", wait.Seconds())
	bounded, cancel := context.WithTimeout(ctx, max(wait, 0)+time.Minute)
	defer cancel()
	if err := server.WaitStats(bounded, func(s sink.Stats) bool { return s.Committed > 0 }); err != nil {
		return fmt.Errorf("nothing arrived: %w", err)
	}
	first := time.Since(up)
	if err := server.WaitStats(bounded, func(s sink.Stats) bool { return s.Open >= slots }); err != nil {
		return fmt.Errorf("%d connections at most, want %d: %w", server.Stats().MaxOpen, slots, err)
	}
	full := time.Since(up) - first
	w.Say("first delivery after %.1f s, all %d slots in use %.1f s later (promised: within the probe interval, then %.0f s)",
		first.Seconds(), slots, full.Seconds(), fullSlotsIn.Seconds())
	if first > max(wait, 0)+probeLate {
		w.Violation("the first delivery came %.1f s after the probe was due", (first - wait).Seconds())
	}
	if full > fullSlotsIn {
		w.Violation("full slots took %.1f s", full.Seconds())
	}
	return then(ctx, server)
}

// nextProbe is when the destination is probed next: a moment from now on, so
// that none is under way.
func (w *world) nextProbe(ctx context.Context) (at time.Time, err error) {
	return at, eventually(ctx, time.Minute, "a planned probe", func(ctx context.Context) error {
		h, err := w.health(ctx)
		if err != nil {
			return err
		}
		if h.NextProbe == nil || time.Until(*h.NextProbe) < time.Second {
			return fmt.Errorf("the destination is %s, its next probe is due at %v", h.State, h.NextProbe)
		}
		at = *h.NextProbe
		return nil
	})
}

// drains measures how fast the queue goes, at a server that is as fast as it can.
func (w *world) drains(ctx context.Context, server *sink.Server) error {
	server.SetAnswer(nil)
	before, began := server.Stats().Committed, time.Now()
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	now := server.Stats()
	w.Say("the queue drains with %.0f messages a second", float64(now.Committed-before)/time.Since(began).Seconds())
	if now.MaxOpen > slots {
		w.Violation("%d connections, %d slots", now.MaxOpen, slots)
	}
	return nil
}

// pause lets a time go by in which something is measured.
func pause(ctx context.Context, long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
