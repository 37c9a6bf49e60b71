package operate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"holdfast/test/harness"
)

type drillReport struct {
	ID                string   `json:"id"`
	Node              string   `json:"node"`
	LeaderAfter       string   `json:"leaderAfter"`
	WithoutAcceptance float64  `json:"secondsWithoutAcceptance"`
	NewLeader         *float64 `json:"secondsToNewLeader"`
	TakenOver         *float64 `json:"secondsToTakeOver"`
	Back              *float64 `json:"secondsToBack"`
	Answered          int      `json:"answered"`
	Lost              []string `json:"lost"`
	Missed            []string `json:"missed"`
}

// drilled gives the report and the exit status.
func (w *world) drilled(n *harness.Node, args ...string) (r drillReport, status int) {
	w.t.Helper()
	out, err := n.CLI(w.ctx, append([]string{"cluster", "drill", "--json"}, args...)...)
	if exit, ok := errors.AsType[*harness.ExitError](err); ok && len(out) > 0 {
		status, err = exit.Status, nil
	}
	w.must(err)
	w.must(json.Unmarshal(out, &r))
	w.t.Logf("drill %v: %s", args, out)
	return r, status
}

// followers are the nodes that don't lead.
func (w *world) followers() (leader *harness.Node, others []*harness.Node) {
	w.t.Helper()
	leader, err := w.Leader(w.ctx)
	w.must(err)
	return leader, slices.DeleteFunc(slices.Clone(w.Nodes), func(n *harness.Node) bool { return n == leader })
}

// Each fault costs what it may, and nothing that was accepted.
func TestDrills(t *testing.T) {
	isLong(t)
	w := start(t)
	leader, others := w.followers()
	w.refused(leader, 1, "drills are not allowed here", "cluster", "drill", "kill-leader")
	w.cli(leader, "settings", "set", "--drill-consent", "yes")
	w.refused(leader, 1, "couldn't watch its own fault", "cluster", "drill", "kill-leader")
	w.refused(others[0], 2, "a fault lasts 10s to 5m", "cluster", "drill", "kill-leader", "--for", "1s")
	w.load("drills", 4, w.SMTP()...)

	r, status := w.drilled(others[0], "partition", others[1].Name)
	if status != 0 || len(r.Lost) > 0 || r.Answered == 0 || r.TakenOver == nil || r.Back == nil || r.NewLeader != nil {
		t.Errorf("partition: status %d, %+v", status, r)
	}
	go func() { // as systemd does
		if err := harness.Eventually(w.ctx, "the end of the leader", func(context.Context) error {
			if leader.Running() {
				return errors.New("it runs")
			}
			return nil
		}); err != nil {
			t.Error(err)
			return
		}
		if err := leader.Start(); err != nil {
			t.Error(err)
		}
	}()
	r, status = w.drilled(others[0], "kill-leader")
	// It is back within the others' election timeout, and may win.
	if status != 0 || len(r.Lost) > 0 || (r.NewLeader == nil) != (r.LeaderAfter == leader.Name) || r.TakenOver == nil || r.Back == nil {
		t.Errorf("kill-leader: status %d, %+v", status, r)
	}
	leader, others = w.followers()
	if r, status = w.drilled(leader, "pause", others[0].Name); status != 0 || r.TakenOver == nil || r.Back == nil {
		t.Errorf("pause: status %d, %+v", status, r)
	}
	w.endLoad()
	// A process that was killed or stood still leaves attempts in doubt.
	w.audit(1000)
}

// A message that was answered 250 and that the log doesn't have is reported, and
// a fault ends in time when nobody watches any more.
func TestDrillReportsALoss(t *testing.T) {
	isLong(t)
	w := start(t)
	leader, others := w.followers()
	w.cli(leader, "settings", "set", "--drill-consent", "yes")
	watcher, victim := others[0], others[1]
	w.load("loss", 3, w.SMTP()...)
	const lost = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	go func() { // a record that says more than the log
		if err := harness.Eventually(w.ctx, "a record of answers", func(context.Context) error {
			records, err := filepath.Glob(filepath.Join(leader.Data(), "drill", "answered-*"))
			if err != nil || len(records) != 1 {
				return errors.Join(err, fmt.Errorf("%d records", len(records)))
			}
			file, err := os.OpenFile(records[0], os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = file.WriteString(lost + "\n")
			return errors.Join(err, file.Close())
		}); err != nil {
			t.Error(err)
		}
	}()
	r, status := w.drilled(watcher, "disk-full", victim.Name)
	if status != 1 || !slices.Equal(r.Lost, []string{lost}) || len(r.Missed) == 0 {
		t.Errorf("status %d, %+v", status, r)
	}
	if (len(r.Missed) > 1 || r.WithoutAcceptance > 3) && !w.leaseLost() {
		t.Errorf("more is missed than the one message: %+v", r)
	}

	w.abandonedDrill(watcher, victim, nil) // the watcher ends the fault early
	w.expectReady(victim, true)
	w.abandonedDrill(watcher, victim, watcher.Kill)
	w.expectReady(victim, true) // by itself
	w.must(watcher.Start())
	w.must(watcher.WaitReady(w.ctx))
	w.endLoad()
	w.audit(1000)
}

// abandonedDrill begins one that its client leaves, or whose watcher ends.
func (w *world) abandonedDrill(watcher, victim *harness.Node, end func() error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		_, err := watcher.CLI(ctx, "cluster", "drill", "disk-full", victim.Name)
		gone <- err
	}()
	w.expectReady(victim, false)
	if end != nil {
		w.must(end())
	} else {
		cancel()
	}
	if err := <-gone; err == nil {
		w.t.Error("the drill came to its end all the same")
	}
}

// expectReady waits until a node does, or doesn't, take mail.
func (w *world) expectReady(n *harness.Node, want bool) {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, fmt.Sprintf("node %s ready: %v", n.Name, want), func(context.Context) error {
		if ready := n.WaitReady(soon(w.t)) == nil; ready != want {
			return errors.New("not yet")
		}
		return nil
	}))
}
