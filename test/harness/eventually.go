package harness

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// finalError ends Eventually at once.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Final marks an error of a check as one that no waiting will cure.
func Final(err error) error { return finalError{err} }

// Eventually asks again and again until check succeeds, says Final, or ctx ends;
// then the error is check's last one.
func Eventually(ctx context.Context, what string, check func(context.Context) error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if final, ok := errors.AsType[finalError](err); ok {
			return fmt.Errorf("waiting for %s: %w", what, final.error)
		}
		if ctx.Err() == nil || last == nil {
			last = err // else it only says that time is up
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %w", what, context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}
