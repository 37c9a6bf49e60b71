package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

// watchFlags are those of a command that shows what there is.
type watchFlags struct {
	asJSON bool
	every  durationFlag
}

func (f *watchFlags) add(cmd *cobra.Command) {
	addJSON(cmd, &f.asJSON)
	cmd.Flags().Var(&f.every, "watch", "show it again and again, every 2s or as often as said (--watch=10s)")
	cmd.Flags().Lookup("watch").NoOptDefVal = "2s"
}

// show shows something once, or again and again until it is interrupted: then
// each time at the first node that answers, so that a node's death doesn't end
// it. On a terminal each time has a cleared screen.
func (a *app) show(cmd *cobra.Command, flags watchFlags, show func(ctx context.Context, conn *grpc.ClientConn) error) error {
	every := flags.every.value
	if every == 0 {
		return a.withNode(cmd, show)
	}
	ctx := cmd.Context()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for shown := false; ; {
		err := a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
			if !flags.asJSON && screenOf(a.out).terminal {
				fmt.Fprint(a.out, "\x1b[H\x1b[2J")
			}
			return show(ctx, conn)
		})
		switch {
		case ctx.Err() != nil:
			return nil // an interrupt is how it ends
		case err != nil && (!shown || !passing(err)):
			return err
		case err != nil:
			fmt.Fprintln(a.err, "holdfast: "+oneLine(err))
		}
		shown = true
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
