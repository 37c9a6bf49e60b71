package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"holdfast/test/harness"
)

// firstRun takes the power from all nodes within the first second of their first
// start, and starts them again: one cluster forms, or a node says in one line
// what is wrong and forms it after its folder was emptied.
func firstRun(ctx context.Context, o options, chance *rand.Rand, out io.Writer) error {
	formed, emptied := 0, 0
	for round := 1; round <= o.rounds; round++ {
		n, err := firstRound(ctx, o, chance, round, out)
		if err != nil {
			return err
		}
		formed++
		emptied += n
	}
	fmt.Fprintf(out, "first: a cluster formed in %d of %d rounds; %d nodes asked for their folder to be emptied\n", formed, o.rounds, emptied)
	return nil
}

func firstRound(ctx context.Context, o options, chance *rand.Rand, round int, out io.Writer) (emptied int, err error) {
	w, err := prepare(ctx, o, fmt.Sprintf("first%d", round), out)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for _, n := range w.cluster.Nodes {
		if err := n.Start(); err != nil {
			return 0, err
		}
	}
	after := time.Duration(chance.Int64N(int64(time.Second)))
	if err := until(ctx, time.Now().Add(after)); err != nil {
		return 0, err
	}
	share := 0
	if round%2 == 0 {
		share = 50
	}
	if err := w.powerCut(func() bool { return chance.IntN(100) < share }); err != nil {
		return 0, err
	}
	began := time.Now()
	for _, n := range w.cluster.Nodes {
		if err := n.Start(); err != nil {
			return 0, err
		}
	}
	if emptied, err = w.awaitFormed(ctx); err != nil {
		return emptied, fmt.Errorf("%s, power cut after %s, %d%% of the unsynced survived: %w\n%s", w.name, after, share, err, w.cluster.Tails(15))
	}
	w.Say("power cut after %s, %d%% of the unsynced survived, %d folders emptied; one cluster %s after the start",
		after.Round(time.Millisecond), share, emptied, time.Since(began).Round(time.Millisecond))
	if err := w.configure(ctx); err != nil {
		return emptied, err
	}
	w.verify(ctx)
	return emptied, w.verdict()
}

// awaitFormed waits until all are ready, and then all must be of one cluster. A
// node that ends must say why; its folder is emptied, as an operator would.
func (w *world) awaitFormed(ctx context.Context) (emptied int, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, n := range w.cluster.Nodes {
		err := n.WaitReady(ctx)
		if err != nil && !n.Running() && w.checkEnd(ctx, n, 0, time.Second) {
			emptied++
			if err := empty(w.mount(n.Name)); err != nil {
				return emptied, err
			}
			if err := n.Start(); err != nil {
				return emptied, err
			}
			err = n.WaitReady(ctx)
		}
		if err != nil {
			return emptied, err
		}
	}
	return emptied, w.checkOneCluster()
}

// checkOneCluster reads the cluster id of each data folder.
func (w *world) checkOneCluster() error {
	ids := map[string]string{}
	for _, n := range w.cluster.Nodes {
		id, err := clusterID(n)
		if err != nil {
			return err
		}
		ids[id] += n.Name
	}
	if len(ids) != 1 || ids[""] != "" {
		return fmt.Errorf("the nodes are of these clusters: %v", ids)
	}
	return nil
}

func clusterID(n *harness.Node) (string, error) {
	data, err := os.ReadFile(filepath.Join(n.Data(), "node.json"))
	if err != nil {
		return "", err
	}
	var identity struct {
		ClusterID string `json:"cluster_id"`
	}
	return identity.ClusterID, json.Unmarshal(data, &identity)
}

// empty removes what is in a folder.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
