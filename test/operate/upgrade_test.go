package operate_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/test/harness"
	"holdfast/test/newer"
)

// A rolling upgrade between two builds under load. The newer one has a kind of
// event and a family that the older lacks: neither is used before the last node
// is upgraded, so that a node can go back until then. After that an older
// program says what is wrong and stops.
func TestRollingUpgrade(t *testing.T) {
	isLong(t)
	w := start(t)
	next, err := newer.Build(w.ctx, shortDir(t))
	w.must(err)
	a, b, c := w.Nodes[0], w.Nodes[1], w.Nodes[2]
	w.load("upgrade", 4, w.SMTP()...)

	w.replaceProgram(a, next)
	w.awaitWarning(b, "mixed-programs", "the state stays at version 1 until node b has the newer one or is removed")
	w.refused(a, 1, "rehearsed comes with version 2, the state is of version 1", "settings", "set", "--warn-pending", "5000")
	w.cli(b, "settings", "set", "--warn-pending", "6000") // what both know goes on
	w.verified(a, "")

	w.replaceProgram(b, next)
	w.replaceProgram(a, "") // a node rolled back works
	w.replaceProgram(c, next)
	w.refused(c, 1, "the state is of version 1", "settings", "set", "--warn-pending", "7000")
	w.verified(a, "")

	w.replaceProgram(a, next)
	w.must(harness.Eventually(w.ctx, "version 2", func(context.Context) error {
		if v := w.upgraded(c).StateVersion; v != newer.Version {
			return fmt.Errorf("the state is of version %d", v)
		}
		return nil
	}))
	w.cli(b, "settings", "set", "--warn-pending", "8000")
	w.verified(a, newer.Family)
	if s := w.upgraded(b); len(s.Warnings) > 0 {
		t.Errorf("warnings %v", s.Warnings)
	}
	w.endLoad()
	w.audit(0)

	// Too late to go back: by its log, by its state, and by an empty folder.
	w.must(c.Kill())
	w.stopsInWords(c)
	w.replaceProgram(c, next)
	w.must(c.Stop(w.ctx))
	w.stopsInWords(c)
	w.must(os.RemoveAll(c.Data()))
	w.stopsInWords(c)
	w.must(os.RemoveAll(c.Data()))
	w.replaceProgram(c, next)
	w.verified(a, newer.Family)
}

// replaceProgram restarts a node, if it runs, with another program.
func (w *world) replaceProgram(n *harness.Node, binary string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	w.must(n.Stop(ctx))
	n.Binary = binary
	w.must(n.Start())
	w.must(n.WaitReady(w.ctx))
}

// stopsInWords wants the older program to end by itself, and to say why.
func (w *world) stopsInWords(n *harness.Node) {
	w.t.Helper()
	n.Binary = ""
	w.must(n.Start())
	w.awaitEnd(n)
	w.must(n.Kill()) // that it ended with status 1 is as it should be
	tail := w.Tails(3)
	if !strings.Contains(tail, "this program knows up to 1: start the newer program") {
		w.t.Errorf("the older program says\n%s", tail)
	}
}

type upgraded struct {
	StateVersion int `json:"stateVersion"`
	Warnings     []struct{ Code, Text string }
}

func (w *world) upgraded(n *harness.Node) (s upgraded) {
	w.t.Helper()
	w.must(n.JSON(w.ctx, &s, "status"))
	return s
}

// verified wants all states to be alike, and to have the family, or no newer one.
func (w *world) verified(n *harness.Node, family string) {
	w.t.Helper()
	out := w.cli(n, "cluster", "verify")
	if !strings.Contains(out, "3 nodes compared, identical") || strings.Contains(out, newer.Family) != (family != "") {
		w.t.Errorf("verify says\n%s", out)
	}
}
