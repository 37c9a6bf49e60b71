package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// WaitExit waits for a process that ends by itself, and gives its exit status,
// -1 where a signal ended it.
func (n *Node) WaitExit(ctx context.Context) (int, error) {
	n.mu.Lock()
	p := n.process
	n.mu.Unlock()
	if p == nil {
		return 0, fmt.Errorf("node %s was not started", n.Name)
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		return 0, fmt.Errorf("node %s still runs: %w", n.Name, ctx.Err())
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		return exit.ExitCode(), nil
	}
	return 0, p.err
}

// Output is what the node has written to stdout and stderr since its output had
// the given length, over all starts; it also gives the length now.
func (n *Node) Output(since int64) (text string, now int64, err error) {
	file, err := os.Open(n.logPath())
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Seek(since, io.SeekStart); err != nil {
		return "", 0, err
	}
	content, err := io.ReadAll(file)
	return string(content), since + int64(len(content)), err
}
