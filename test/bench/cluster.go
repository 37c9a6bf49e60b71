package main

import (
	"context"
	"fmt"
	"path/filepath"

	"holdfast/test/harness"
)

// startCluster starts holdfast on so many nodes, without proxies in between,
// and makes it relay the benchmark's domain to nextHop.
func startCluster(ctx context.Context, binary, dir string, nodes int, nextHop string) (*harness.Cluster, error) {
	c, err := harness.Start(ctx, harness.Config{
		Binary: binary, Dir: filepath.Join(dir), Nodes: nodes, Direct: true, LogLevel: "warn",
	})
	if err != nil {
		return nil, err
	}
	for _, command := range [][]string{
		{"destination", "set", "bench", "--host", nextHop},
		{"domain", "set", domain, "--destination", "bench", "--verify", "off"},
	} {
		if _, err := c.Nodes[0].CLI(ctx, command...); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, stopped(c))
		}
	}
	return c, nil
}

// stopped ends a cluster that is of no use and gives the ends of its logs.
func stopped(c *harness.Cluster) string {
	if err := c.Close(); err != nil {
		return err.Error()
	}
	return c.Tails(10)
}
