package main

import (
	"context"
	"fmt"
	"time"
)

// watch shows something until ctx ends or showing it fails, each time on a
// cleared terminal where one is asked for.
func (a *app) watch(ctx context.Context, every time.Duration, clear bool, show func() error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if clear && a.terminal() {
			fmt.Fprint(a.out, "\x1b[H\x1b[2J")
		}
		if err := show(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
