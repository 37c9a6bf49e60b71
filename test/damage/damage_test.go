package damage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	"holdfast/test/harness"
	"holdfast/test/load"
)

// One changed byte in a row of each family that the cluster has rows of: the
// digests agree all the same, since they were kept before, but reading the rows
// names the node and the families. A node that is wiped is sound again.
func TestVerifyNamesTheDamagedNodeAndFamily(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir, err := os.MkdirTemp("", "hf") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	binary, err := harness.Build(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := harness.Start(ctx, harness.Config{Binary: binary, Dir: dir, Nodes: 3, Direct: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Log(c.Tails(20))
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	fill(ctx, t, c)
	a, damaged := c.Nodes[0], c.Nodes[2]
	verify(ctx, t, a, "--deep")

	stop(ctx, t, damaged)
	edited := edit(t, damaged)
	start(ctx, t, damaged)
	_, err = a.CLI(ctx, "cluster", "verify", "--deep")
	exit, ok := errors.AsType[*harness.ExitError](err)
	if !ok || exit.Status != 1 {
		t.Fatalf("verify --deep of a damaged node: %v", err)
	}
	// Families have names in the command, and bytes in the folder.
	named := strings.Count(exit.Stderr, "node c in ")
	if named < edited || strings.Contains(exit.Stderr, "node a in") || strings.Contains(exit.Stderr, "node b in") {
		t.Errorf("rows of %d families were changed, found: %s", edited, exit.Stderr)
	}
	// From then on it is known to every verification, and to the status.
	if _, err := a.CLI(ctx, "cluster", "verify"); err == nil {
		t.Error("verify has forgotten the damage")
	}
	if err := harness.Eventually(ctx, "a status that says so", func(ctx context.Context) error { // one asks a node for a second
		status, err := a.CLI(ctx, "status")
		if err == nil && !bytes.Contains(status, []byte("the state of node c is damaged in")) {
			err = fmt.Errorf("status %s", status)
		}
		return err
	}); err != nil {
		t.Error(err)
	}

	stop(ctx, t, damaged)
	if err := os.RemoveAll(damaged.Data()); err != nil {
		t.Fatal(err)
	}
	start(ctx, t, damaged)
	verify(ctx, t, a, "--deep")
}

// fill leaves mail that waits, bodies in one piece and in several.
func fill(ctx context.Context, t *testing.T, c *harness.Cluster) {
	t.Helper()
	nobody, err := harness.FreeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"destination", "set", "away", "--host", nobody[0]},
		{"domain", "set", "away.test", "--destination", "away", "--verify", "off"},
	} {
		if _, err := c.Nodes[0].CLI(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	loader, err := load.New(load.Config{
		Addresses: c.SMTP(), Sessions: 3, Run: "damage", Count: 60, Recipients: []string{"user@away.test"},
		Size: 2 << 10, LongEvery: 10, LongSize: 600 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loader.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// edit changes one bit of a row of each family whose change a start survives,
// and counts them.
func edit(t *testing.T, n *harness.Node) (families int) {
	t.Helper()
	state := filepath.Join(n.Data(), "state")
	generations, err := filepath.Glob(filepath.Join(state, "gen-*"))
	if err != nil || len(generations) != 1 {
		t.Fatalf("generations %v, %v", generations, err)
	}
	for _, first := range firstBytes(t, generations[0]) {
		restore := flip(t, generations[0], first)
		if err := opens(state); err != nil {
			t.Logf("family %q: a node with this change doesn't start: %v", first, err)
			restore()
			continue
		}
		families++
	}
	if families < 8 {
		t.Fatalf("only %d families were changed", families)
	}
	return families
}

func open(t *testing.T, dir string) *pebble.DB {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{
		FormatMajorVersion: pebble.FormatValueSeparation, DisableWAL: true, Logger: silent{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// silent drops what Pebble tells of its own work.
type silent struct{}

func (silent) Infof(string, ...any)              {}
func (silent) Errorf(string, ...any)             {}
func (silent) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// firstBytes are the families that are replicated: all but the node's own rows
// and the index.
func firstBytes(t *testing.T, dir string) []byte {
	t.Helper()
	db := open(t, dir)
	var found []byte
	iter, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for valid := iter.First(); valid; valid = iter.Next() {
		if first := iter.Key()[0]; first != 0 && first != 'i' && !slices.Contains(found, first) {
			found = append(found, first)
		}
	}
	if err := errors.Join(iter.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	return found
}

// flip changes the last bit of a family's first row, of its value if it has one.
func flip(t *testing.T, dir string, first byte) (restore func()) {
	t.Helper()
	db := open(t, dir)
	iter, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{first}, UpperBound: []byte{first + 1}})
	if err != nil || !iter.First() {
		t.Fatalf("no row of %q: %v", first, err)
	}
	key, value := bytes.Clone(iter.Key()), bytes.Clone(iter.Value())
	changed := slices.Concat(key, value)
	changed[len(changed)-1] ^= 1
	err = errors.Join(iter.Close(), db.Delete(key, pebble.NoSync),
		db.Set(changed[:len(key)], changed[len(key):], pebble.NoSync), db.Flush(), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		db := open(t, dir)
		err := errors.Join(db.Delete(changed[:len(key)], pebble.NoSync), db.Set(key, value, pebble.NoSync), db.Flush(), db.Close())
		if err != nil {
			t.Fatal(err)
		}
	}
}

// opens tells whether a node would start with the folder.
func opens(dir string) error {
	state, err := fsm.Open(fsm.Config{
		Dir: dir, Node: "c", Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Fatal: func(error) {},
	})
	if err != nil {
		return err
	}
	return state.Close()
}

func stop(ctx context.Context, t *testing.T, n *harness.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func start(ctx context.Context, t *testing.T, n *harness.Node) {
	t.Helper()
	if err := errors.Join(n.Start(), n.WaitReady(ctx)); err != nil {
		t.Fatal(err)
	}
}

// verify wants all three nodes to agree.
func verify(ctx context.Context, t *testing.T, n *harness.Node, args ...string) {
	t.Helper()
	output, err := n.CLI(ctx, append([]string{"cluster", "verify"}, args...)...)
	if err != nil || !strings.Contains(string(output), fmt.Sprintf("%d nodes compared, identical", 3)) {
		t.Fatalf("verify: %v\n%s", err, output)
	}
}
