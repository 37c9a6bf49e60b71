package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether someone can answer a question there.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// terminalWidth is 0 where a terminal doesn't know its own, and not ok where
// there is none.
func terminalWidth(f *os.File) (width int, ok bool) {
	if !isTerminal(f) {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, true
	}
	return int(size.Col), true
}
