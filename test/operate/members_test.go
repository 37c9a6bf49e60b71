package operate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/test/harness"
)

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// expectReply waits until a node greets with the reply.
func (w *world) expectReply(n *harness.Node, want string) {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, want+" from node "+n.Name, func(context.Context) error {
		conn, err := net.DialTimeout("tcp", n.SMTP, 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, want) {
			return &net.AddrError{Err: "it says " + strings.TrimSpace(line), Addr: n.SMTP}
		}
		return err
	}))
}

// From three nodes to five and back under load: two join, one dies and is
// replaced under another name, the leader is removed.
func TestMembersComeAndGo(t *testing.T) {
	isLong(t)
	w := start(t)
	a := w.Nodes[0]
	w.load("members", 4, w.SMTP()...)
	d, err := w.Add(w.ctx, "d")
	w.must(err)
	_, err = w.Add(w.ctx, "e")
	w.must(err)
	w.cli(a, "status")

	c := w.Nodes[2]
	w.must(c.Kill())
	w.must(w.Nodes[4].Kill())
	w.awaitWarning(a, "redundancy", "2 of 5 nodes are down: one more loss stops the cluster")
	w.refused(a, 1, "no mail would be accepted", "cluster", "remove", "d")
	w.must(w.Nodes[4].Start())
	w.must(harness.Eventually(w.ctx, "the removal of c", func(ctx context.Context) error {
		_, err := a.CLI(ctx, "cluster", "remove", "c")
		if exit, ok := errors.AsType[*harness.ExitError](err); ok && exit.Status == 3 {
			return nil // an earlier try did it, and wasn't told so in time
		}
		return err // the node that has just come back may not be heard yet
	}))
	w.refused(a, 3, `no node "c" in the cluster`, "cluster", "remove", "c")
	w.must(c.Start())
	if status, err := c.WaitExit(w.ctx); err != nil || status != 0 {
		t.Errorf("the removed node exits with status %d, %v: a failure would have it started again", status, err)
	}
	if tails := w.Tails(5); !strings.Contains(tails, "node c was removed from the cluster: it stops") {
		t.Errorf("the removed node doesn't say why it stops:\n%s", tails)
	}
	w.Forget(c)
	_, err = w.Add(w.ctx, "f")
	w.must(err)

	b := w.Nodes[1]
	w.must(harness.Eventually(w.ctx, "node b to lead", func(ctx context.Context) error {
		_, err := d.CLI(ctx, "cluster", "transfer", "b")
		if s := w.status(d); err == nil && s.Leader != "b" {
			err = fmt.Errorf("node %q leads", s.Leader)
		}
		return err
	}))
	w.cli(a, "node", "drain", "b", "--wait")
	w.cli(a, "cluster", "remove", "b")
	w.awaitEnd(b)
	w.Forget(b)
	w.cli(a, "node", "drain", "e", "--wait")
	w.cli(a, "cluster", "remove", "e")
	w.Forget(w.Nodes[2])
	w.endLoad()
	w.cli(a, "status")
	if s := w.status(a); len(s.Nodes) != 3 {
		t.Errorf("nodes %+v, want a, d and f", s.Nodes)
	}
	w.audit(40)
}
