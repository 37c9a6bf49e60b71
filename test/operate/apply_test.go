package operate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/test/harness"
)

// Rows of the replicated state that staging a file makes.
const (
	stagedFiles  = `holdfast_state_rows{family="uploads"}`
	stagedPieces = `holdfast_state_rows{family="content"}`
)

const manyDomains = 20_000 // staged in some seven pieces before it is committed

// file writes a configuration of many domains, each with a limit.
func (w *world) file(domains, limit int) string {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "[destination.sink]\nhosts = [%q]\ntls = \"none\"\n[domain]\n\"sink.test\" = {destination = \"sink\", verify = \"off\"}\n", w.sink.Addr())
	for i := range domains {
		fmt.Fprintf(&b, "\"customer-with-a-long-name-%06d.example.test\" = {destination = \"sink\", max_messages = %d}\n", i, limit)
	}
	path := filepath.Join(w.t.TempDir(), "holdfast.toml")
	w.must(os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

func (w *world) metric(n *harness.Node, name string) float64 {
	w.t.Helper()
	value, err := n.Metric(w.ctx, name)
	w.must(err)
	return value
}

func (w *world) other(but ...*harness.Node) *harness.Node {
	for _, n := range w.Nodes {
		if !slices.Contains(but, n) {
			return n
		}
	}
	return nil
}

func (w *world) export(n *harness.Node) string {
	w.t.Helper()
	out, err := n.CLI(w.ctx, "export")
	w.must(err)
	return string(out)
}

// Nodes die by kill -9 at any point of an apply that they carry out, between
// staging and commit above all. The file is then in effect whole or not at all, on
// every node, and what was staged is gone.
func TestApplyOutlivesItsNode(t *testing.T) {
	isLong(t)
	w := start(t)
	var before, between, after int
	for round := 0; round < 10 && (between == 0 || round < 3); round++ {
		victim := w.follower()
		witness := w.other(victim)
		file, was := w.file(manyDomains, round+1), w.export(witness)
		applied := make(chan error, 1)
		go func() {
			_, err := victim.CLI(w.ctx, "apply", "-f", file, "--yes")
			applied <- err
		}()
		// At the first piece that another node has, or some later.
		var staged float64
		for staged < float64(1+3*(round%2)) && len(applied) == 0 {
			staged = w.metric(witness, stagedPieces)
		}
		w.must(victim.Kill())
		err := <-applied
		w.awaitWarning(witness, "node-down", victim.Name)
		w.must(harness.Eventually(w.ctx, "an end of what was staged", func(context.Context) error {
			if files, rows := w.metric(witness, stagedFiles), w.metric(witness, stagedPieces); files+rows > 0 {
				return fmt.Errorf("%v files with %v pieces", files, rows)
			}
			return nil
		}))
		now := w.export(witness)
		whole := strings.Count(now, fmt.Sprintf("max_messages = %d\n", round+1))
		switch {
		case now == was && staged > 0:
			between++
		case now == was:
			before++
		case whole == manyDomains:
			after++
		default:
			t.Errorf("%d of %d domains are as the file says", whole, manyDomains)
		}
		if exit, ok := errors.AsType[*harness.ExitError](err); err != nil && (!ok || exit.Status != 4) {
			t.Errorf("apply by a node that died: %v", err)
		} else if now == was && err == nil {
			t.Error("apply succeeded, and nothing was changed")
		}
		w.must(victim.Start())
		w.must(w.WaitReady(w.ctx))
	}
	t.Logf("died before staging %d, between staging and commit %d, after the commit %d times", before, between, after)
	if between == 0 {
		t.Error("no node died between staging and commit")
	}
	// The same file again, by the last of them, and all nodes have it.
	file := w.file(manyDomains, 99)
	if _, err := w.Nodes[0].CLI(w.ctx, "apply", "-f", file, "--yes"); err != nil {
		t.Error(err)
	}
	for _, n := range w.Nodes {
		if got := strings.Count(w.export(n), "max_messages = 99\n"); got != manyDomains {
			t.Errorf("node %s has %d of %d domains", n.Name, got, manyDomains)
		}
	}
	w.cli(w.Nodes[0], "cluster", "verify")
}

// With one node dead of three a file is applied through either of the others. With
// two dead the last one shows the difference and the configuration, as of its own
// state; it doesn't apply, says why with exit status 4, and what it said holds when
// the quorum is back.
func TestApplyWithDeadNodes(t *testing.T) {
	isLong(t)
	w := start(t)
	a, b, c := w.Nodes[0], w.Nodes[1], w.Nodes[2]
	w.must(c.Kill())
	w.awaitWarning(a, "node-down", "c")
	for i, n := range []*harness.Node{a, b} {
		file := w.file(10, i+1)
		if out := w.cli(n, "apply", "-f", file, "--yes"); !strings.Contains(out, "revision ") {
			t.Errorf("%s", out)
		}
		if got := strings.Count(w.export(w.other(n, c)), fmt.Sprintf("max_messages = %d\n", i+1)); got != 10 {
			t.Errorf("%d domains are as the file says", got)
		}
	}
	was := w.export(a)
	w.must(b.Kill())
	w.must(harness.Eventually(w.ctx, "a stale node", func(context.Context) error {
		if !w.status(a).Stale {
			return errors.New("it has its lease")
		}
		return nil
	}))
	small, large := w.file(10, 7), w.file(manyDomains, 8)
	for _, file := range []string{small, large} {
		w.refused(a, 4, "no quorum", "apply", "-f", file, "--yes")
		out, stderr, status := w.command(a, []string{"apply", "-f", file, "--dry-run"})
		if status != 0 || !strings.Contains(out, "to change") || !strings.Contains(stderr, "stale") {
			t.Errorf("--dry-run without a quorum: status %d, %d bytes, %s", status, len(out), stderr)
		}
	}
	out, stderr, status := w.command(a, []string{"export"})
	if status != 0 || out != was || !strings.Contains(stderr, "stale") {
		t.Errorf("export without a quorum: status %d, %s", status, stderr)
	}
	w.must(b.Start())
	w.must(c.Start())
	w.must(w.WaitReady(w.ctx))
	for _, n := range w.Nodes {
		if w.export(n) != was {
			t.Errorf("node %s has another configuration than before the quorum was lost", n.Name)
		}
		if files := w.metric(n, stagedFiles); files != 0 {
			t.Errorf("node %s has %v staged files", n.Name, files)
		}
	}
	w.cli(b, "apply", "-f", small, "--yes")
}
