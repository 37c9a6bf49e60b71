// Command holdfast runs a node, or a whole cluster for trying it out, and
// administers a running one:
//
//  1. The command line picks a subcommand, each in a file of its own.
//  2. A subcommand that administers reaches a node (dial.go) and calls its gRPC
//     services; it uses nothing else.
//  3. What it finds goes to stdout, as a table or as JSON, one object a line.
//  4. What went wrong goes to stderr as one line, and its kind is the exit
//     status (exit.go).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set by the linker: -X main.version=v1.2.3.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	a := &app{
		in: os.Stdin, out: console{os.Stdout, os.Getenv}, err: console{os.Stderr, os.Getenv},
		now: time.Now, env: os.Getenv, program: os.Args[0],
		terminal: func() bool { return isTerminal(os.Stdin) }, unseen: readUnseen,
	}
	os.Exit(a.run(ctx, os.Args[1:]))
}
