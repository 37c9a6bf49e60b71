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
)

// comesBack starts the mail server, and measures how long the first delivery
// and the full slots take.
func (w *world) comesBack(ctx context.Context, config sink.Config) (err error) {
	h, err := w.health(ctx)
	if err != nil {
		return err
	}
	if h.NextProbe == nil {
		return fmt.Errorf("destination %s is %s: no probe is planned", destination, h.State)
	}
	wait := time.Until(*h.NextProbe)
	config.Address = w.next
	// A real server needs a moment for each message: without it a slot is free
	// again before the next one is needed.
	config.Answer = sink.On(sink.Dot, sink.Reply{Delay: 200 * time.Millisecond})
	server, err := sink.Start(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	up := time.Now()
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
	return w.drains(ctx, server)
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
