package harness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"holdfast/node"
)

// startInside runs the node within our own process, by the same file and the
// same two calls as the server does, which closes output at its end.
func (n *Node) startInside(output *os.File) (*process, error) {
	config, err := node.Load(n.ConfigPath())
	if err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: config.Log.SlogLevel()}
	inside, err := node.New(config, slog.New(slog.NewTextHandler(output, options)))
	if err != nil {
		return nil, err
	}
	// Stop and Close end it, as they end a process.
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{pid: os.Getpid(), exited: make(chan struct{}), signal: func(s os.Signal) error {
		if s == syscall.SIGHUP {
			return inside.Reload()
		}
		if s != syscall.SIGTERM {
			return fmt.Errorf("node %s runs within this process: it can be stopped, but %s needs one of its own", n.Name, s)
		}
		cancel()
		return nil
	}}
	go func() {
		p.err = errors.Join(inside.Run(ctx), output.Close())
		cancel()
		close(p.exited)
	}()
	return p, nil
}
