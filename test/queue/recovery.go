package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// recoveryRun brings a destination back, then restarts the whole cluster while
// its queue goes out, and once more while it is down.
func recoveryRun(ctx context.Context, o options, out io.Writer) error {
	return inWorld(ctx, o, "recovery", out, func(w *world) error {
		if err := w.configure(ctx, "--probe-max", "10s"); err != nil {
			return err
		}
		begin := time.Now().Add(-time.Minute)
		if err := w.prepare(ctx, o.messages, func(n int) (*pb.Event, []byte) { return acceptance(n, begin, domain) }); err != nil {
			return err
		}
		if err := w.awaitDown(ctx); err != nil {
			return err
		}
		if err := w.herd(ctx, "down"); err != nil {
			return err
		}
		if err := w.awaitDown(ctx); err != nil {
			return err
		}
		if err := w.comesBack(ctx, func(context.Context, *sink.Server) error { return nil }); err != nil {
			return err
		}
		return w.herd(ctx, "up")
	})
}

// herd kills all nodes at the same time, and wants them to come back to the
// destination one connection after the other.
func (w *world) herd(ctx context.Context, state string) (err error) {
	if err := w.kill(); err != nil {
		return err
	}
	var openings openings
	answer := func(step sink.Step) sink.Reply {
		switch step.Verb {
		case sink.Connect:
			openings.add(step.Open)
			if state == "down" {
				return sink.Reply{Code: 421, Text: "not now", Hangup: true}
			}
		case sink.Dot:
			return sink.Reply{Delay: oneMessage}
		}
		return sink.Reply{}
	}
	server, err := sink.Start(sink.Config{Address: w.next, Recording: sink.RecordCount, Answer: answer})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if _, err := w.start(bounded, time.Minute); err != nil {
		return err
	}
	if err := server.WaitStats(bounded, func(s sink.Stats) bool { return s.Connections > 0 }); err != nil {
		return fmt.Errorf("nobody came: %w", err)
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	// A ramp of 1, 2, 4 … begins with one, until a message has been taken.
	total, first, most := openings.count(oneMessage * 3 / 4)
	_, early, _ := openings.count(time.Second)
	w.Say("the whole cluster restarted, the destination %s: %d connections before a message was taken, %d in the first second, %d in ten, %d at once",
		state, first, early, total, most)
	switch {
	case state == "down" && total > 6:
		// Probes 5 s apart at the least, and a second opinion.
		return fmt.Errorf("%d connections to a destination that is down", total)
	case most > slots:
		w.Violation("%d connections in %d slots", most, slots)
	case first > 2:
		w.Violation("%d connections at the very beginning", first)
	}
	return nil
}

// openings are the times of connections.
type openings struct {
	mu   sync.Mutex // guards the fields below
	at   []time.Time
	most int
}

func (o *openings) add(open int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.at, o.most = append(o.at, time.Now()), max(o.most, open)
}

// count gives all, and those within a time of the first.
func (o *openings) count(within time.Duration) (total, early, most int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.at {
		if at.Sub(o.at[0]) <= within {
			early++
		}
	}
	return len(o.at), early, o.most
}
