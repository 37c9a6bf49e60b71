package operate_test

import (
	"context"
	"strings"

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
)

// insist runs a command until it succeeds: one that the cluster must agree to fails
// while no node leads.
func (w *world) insist(n *harness.Node, args ...string) {
	w.t.Helper()
	command := strings.Join(args, " ")
	w.must(harness.Eventually(w.ctx, command, func(ctx context.Context) error {
		out, err := n.CLI(ctx, args...)
		if err == nil {
			w.t.Logf("%s$ holdfast %s\n%s", n.Name, command, out)
		}
		return err
	}))
}

// awaitService waits until a node that runs leads, and all that run take mail.
func (w *world) awaitService() {
	w.t.Helper()
	_, err := w.Leader(w.ctx)
	w.must(err)
	w.must(w.WaitReady(w.ctx))
}

// leaseLost tells whether a node says that it lost its lease. One that stands still
// for longer than the lease lasts ends what it has under way, as it should.
func (w *world) leaseLost() bool {
	w.t.Helper()
	for _, n := range w.Nodes {
		if strings.Contains(logOf(w.t, n), "lost its lease") {
			w.journal.Say("node %s lost its lease", n.Name)
			return true
		}
	}
	return false
}

// auditServed is audit of a load that a node took mail of at every time, with nothing
// in doubt, but where a node lost its lease meanwhile.
func (w *world) auditServed(report *load.Report) {
	w.t.Helper()
	if w.leaseLost() {
		w.audit(audit.NoLimit)
		return
	}
	if report.Stranded > 0 {
		w.t.Errorf("%d times no node took mail", report.Stranded)
	}
	w.audit(0)
}
