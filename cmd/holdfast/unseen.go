package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/term"
)

// readUnseen reads a line from the terminal that it doesn't show. Ctrl-C ends it
// with the terminal as it was.
func readUnseen(ctx context.Context) (string, error) {
	fd := int(os.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type answer struct {
		line []byte
		err  error
	}
	// Whoever waits at a terminal can't be called back: after Ctrl-C the process
	// ends, and the reader with it.
	answered := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		answered <- answer{line, err}
	}()
	select {
	case a := <-answered:
		return string(a.line), a.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}
