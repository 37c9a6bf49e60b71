package operate_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"holdfast/test/harness"
	"holdfast/test/load"
)

// All three nodes restart one after the other under load. A client that goes
// through the nodes is always served by one, and nothing is in doubt.
func TestRollingRestart(t *testing.T) {
	w := start(t)
	w.load("rolling", 6, w.SMTP()...)
	for _, n := range w.Nodes {
		stop, cancel := context.WithTimeout(w.ctx, time.Minute)
		began := time.Now()
		w.must(n.Stop(stop))
		cancel()
		t.Logf("node %s stopped in %s", n.Name, time.Since(began).Round(time.Millisecond))
		w.must(n.Start())
		w.must(n.WaitReady(w.ctx))
	}
	report := w.endLoad()
	if n := report.Count(load.Unknown); n > 0 && !w.leaseLost() {
		t.Errorf("%d messages have an unknown outcome", n)
	}
	w.auditServed(report)
}

// A drained node stays so over a restart, until it is resumed.
func TestDrainAndResume(t *testing.T) {
	w := start(t)
	leader, err := w.Leader(w.ctx)
	w.must(err)
	w.load("drain", 4, w.SMTP()...)
	asked := w.Nodes[0]
	if asked == leader {
		asked = w.Nodes[1]
	}
	if out := w.cli(asked, "node", "drain", leader.Name, "--wait"); out != "node "+leader.Name+" is out of service: safe to stop\n" {
		t.Errorf("drain says %q", out)
	}
	w.awaitWarning(asked, "node-draining", "node "+leader.Name+" is out of service")
	w.must(harness.Eventually(w.ctx, "another leader", func(context.Context) error {
		if s := w.status(asked); s.Leader == "" || s.Leader == leader.Name {
			return fmt.Errorf("node %q leads", s.Leader)
		}
		return nil
	}))
	if err := leader.WaitReady(soon(t)); err == nil {
		t.Error("/readyz of the drained node says 200")
	}
	w.must(leader.Kill()) // safe to stop means that even this puts nothing in doubt
	w.must(leader.Start())
	w.awaitWarning(asked, "node-draining", "node "+leader.Name+" is out of service")
	w.expectReply(leader, "421 4.3.2")
	w.insist(leader, "node", "resume")
	w.must(leader.WaitReady(w.ctx))
	w.expectReply(leader, "220 ")
	w.auditServed(w.endLoad())
	w.refused(asked, 3, "no node z in the cluster", "node", "drain", "z")
}
