package fsm

import (
	"context"
	"sync"
)

// waiters wakes those who wait for an index to be applied.
type waiters struct {
	mu      sync.Mutex // guards the fields below
	applied uint64
	next    chan struct{} // closed and replaced at each advance
	closed  bool
}

func (w *waiters) init() { w.next = make(chan struct{}) }

func (w *waiters) advance(index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.applied = index
	close(w.next)
	w.next = make(chan struct{})
}

func (w *waiters) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.next)
	}
}

func (w *waiters) wait(ctx context.Context, index uint64) error {
	for {
		w.mu.Lock()
		applied, next, closed := w.applied, w.next, w.closed
		w.mu.Unlock()
		switch {
		case applied >= index:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
