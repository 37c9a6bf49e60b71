package main

import (
	"context"
	"sync"
	"time"
)

// window lets no more messages be on their way at once than its size: the next
// one begins when one has arrived, so that neither end runs ahead of the other.
type window struct {
	size        int
	destination *destination

	mu      sync.Mutex // guards the fields below
	begun   int
	arrived int
	moved   chan struct{} // closed when arrived has grown
}

func newWindow(size int, d *destination) *window {
	return &window{size: size, destination: d, moved: make(chan struct{})}
}

// admit waits for room for one more message; false where ctx ended first.
func (w *window) admit(ctx context.Context) bool {
	for {
		w.mu.Lock()
		if w.begun-w.arrived < w.size {
			w.begun++
			w.mu.Unlock()
			return true
		}
		moved := w.moved
		w.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// lookEvery is how often the destination is asked what has arrived.
const lookEvery = 5 * time.Millisecond

// follow keeps count of what arrives, beyond what was there before, until ctx ends.
func (w *window) follow(ctx context.Context, before int) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now, err := w.destination.received(0)
		if err != nil {
			return err
		}
		w.mu.Lock()
		if arrived := now.Messages - before; arrived > w.arrived {
			w.arrived = arrived
			close(w.moved)
			w.moved = make(chan struct{})
		}
		w.mu.Unlock()
	}
}
