package operate_test

import (
	"context"
	"errors"
	"fmt"
	"net/smtp"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/test/harness"
	"holdfast/test/sink"
)

// rcpt is a node's answer to a recipient: its code. A node without a lease, such as
// one that was held up, doesn't come to be asked: it refuses MAIL, which is an error.
func (w *world) rcpt(n *harness.Node, address string) (code int, err error) {
	c, err := smtp.Dial(n.SMTP)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Mail("sender@example.org"); err != nil {
		return 0, fmt.Errorf("MAIL: %w", err)
	}
	err = c.Rcpt(address)
	if refused, ok := errors.AsType[*textproto.Error](err); ok {
		w.t.Logf("%s: RCPT TO:<%s>: %v", n.Name, address, refused)
		return refused.Code, nil
	}
	return 250, err
}

// Every node gives the same answer to the same RCPT (R16), and goes on to while the
// destination is down, and while the node that had asked it is dead.
func TestRecipientsAtEveryNode(t *testing.T) {
	w := start(t)
	var asked atomic.Int32
	w.sink.SetAnswer(func(step sink.Step) sink.Reply {
		if step.Verb == "RCPT" && !strings.HasPrefix(step.Address, "holdfast") {
			asked.Add(1)
		}
		if step.Verb == "RCPT" && step.Address != "anna@sink.test" {
			return sink.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such mailbox"}
		}
		return sink.Reply{}
	})
	w.cli(w.Nodes[0], "domain", "set", "sink.test", "--verify", "callout")
	answers := func(when string, nodes []*harness.Node, want map[string]int) {
		t.Helper()
		for _, n := range nodes {
			for address, code := range want {
				var got int
				w.must(harness.Eventually(w.ctx, "an answer of node "+n.Name, func(context.Context) (err error) {
					got, err = w.rcpt(n, address)
					return err
				}))
				if got != code {
					t.Errorf("%s: node %s answers %d for %s, want %d", when, n.Name, got, address, code)
				}
			}
		}
	}
	known := map[string]int{"anna@sink.test": 250, "bert@sink.test": 550}
	answers("asked for", w.Nodes, known)
	if n := asked.Load(); n != 2 {
		t.Errorf("the destination was asked for 2 recipients %d times", n)
	}

	w.sink.SetAnswer(sink.On(sink.Connect, sink.Reply{Code: 421, Text: "shutting down", Hangup: true}))
	w.sink.Disconnect()
	answers("destination down", w.Nodes, map[string]int{"anna@sink.test": 250, "bert@sink.test": 550, "carl@sink.test": 450})
	w.awaitWarning(w.Nodes[0], "destination-down", "sink")
	w.cli(w.Nodes[1], "recipient", "add", "dora@sink.test")
	known["dora@sink.test"] = 250
	answers("one is listed", w.Nodes, known)
	w.refused(w.Nodes[0], 1, "450", "recipient", "check", "carl@sink.test")

	var shown struct{ Owner string }
	w.must(w.Nodes[0].JSON(w.ctx, &shown, "destination", "show", "sink"))
	var left []*harness.Node
	for _, n := range w.Nodes {
		if n.Name == shown.Owner {
			w.must(n.Kill())
		} else {
			left = append(left, n)
		}
	}
	w.awaitService()
	for _, n := range left {
		w.must(harness.Eventually(w.ctx, "node "+n.Name+" takes mail again", func(context.Context) error {
			code, err := w.rcpt(n, "anna@sink.test")
			if err == nil && code != 250 {
				err = fmt.Errorf("%d", code)
			}
			return err
		}))
	}
	answers("its owner is dead", left, known)

	w.must(left[1].Kill())
	w.must(harness.Eventually(w.ctx, "the last node knows of no quorum", func(context.Context) error {
		if s := w.status(left[0]); !s.Stale {
			return errors.New("it has one")
		}
		return nil
	}))
	// As RCPT says it.
	w.refused(left[0], 1, "451 4.3.2", "recipient", "check", "anna@sink.test")
	w.refused(left[0], 1, "451 4.3.2", "recipient", "check", "anna@nowhere.test")
}
