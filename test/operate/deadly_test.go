package operate_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"holdfast/test/harness"
	"holdfast/test/sink"
)

// deadlyServer holds the reply to one sender's messages, and tells which node
// waits for it.
type deadlyServer struct {
	mu      sync.Mutex // guards nodes
	nodes   map[int]string
	reached chan string
	release chan struct{}
}

func (d *deadlyServer) answer(step sink.Step) sink.Reply {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case step.Verb == "EHLO":
		d.nodes[step.Conn] = step.Args
	case step.Verb == sink.Dot && strings.HasPrefix(step.Message.From, "deadly@"):
		d.reached <- d.nodes[step.Conn]
		return sink.Reply{Hold: d.release}
	}
	return sink.Reply{}
}

// A message whose deliverer dies, and whose next one dies too, is held: it
// doesn't kill node after node, and all other mail goes its way.
func TestMessageThatKillsItsDelivererIsHeld(t *testing.T) {
	isLong(t)
	w := start(t)
	d := &deadlyServer{nodes: map[int]string{}, reached: make(chan string, 10), release: make(chan struct{})}
	server, err := sink.Start(sink.Config{Answer: d.answer})
	w.must(err)
	t.Cleanup(func() {
		close(d.release)
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	w.cli(w.Nodes[0], "destination", "set", "deadly", "--host", server.Addr())
	w.cli(w.Nodes[0], "domain", "set", "deadly.test", "--destination", "deadly", "--verify", "off")
	id := w.sendFrom(w.Nodes[0], "deadly@origin.test", "user@deadly.test")
	for death := range 2 {
		var hostname string
		select {
		case hostname = <-d.reached:
		case <-w.ctx.Done():
			t.Fatalf("no node delivers it after %d deaths", death)
		}
		for _, n := range w.Nodes {
			if n.Hostname() == hostname {
				w.must(n.Kill())
				t.Logf("node %s died over it", n.Name)
				w.must(n.Start())
				w.must(n.WaitReady(w.ctx))
			}
		}
	}
	node := w.Nodes[0]
	w.must(harness.Eventually(w.ctx, "message "+id, func(ctx context.Context) error {
		var m queued
		if err := node.JSON(ctx, &m, "queue", "show", id); err != nil {
			return err
		}
		chain := strings.Join(m.Recipients[0].Causes, "\n")
		if m.State != "held" || !strings.Contains(chain, "2 of its attempts ended with the death of the node") || !m.Recipients[0].InDoubt {
			return fmt.Errorf("it is %s: %s", m.State, chain)
		}
		return nil
	}))
	w.awaitWarning(node, "held", "1 recipient is held")
	other := w.sendTo(node, "user@deadly.test")
	w.awaitState(node, other, "delivered")
	if n := len(d.reached); n > 0 {
		t.Errorf("it was tried %d times more", n)
	}
	w.cli(node, "cluster", "verify")
}
