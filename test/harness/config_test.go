package harness

import (
	"errors"
	"testing"

	"holdfast/node"
)

func errorsIs(err error, targets ...error) bool {
	for _, target := range targets {
		if !errors.Is(err, target) {
			return false
		}
	}
	return true
}

// The files that the harness writes are what the server reads.
func TestNodeFile(t *testing.T) {
	for _, direct := range []bool{false, true} {
		c, err := Prepare(t.Context(), Config{Dir: t.TempDir(), Nodes: 3, Direct: direct, LogStore: "boltdb"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Network.close()
		for _, n := range c.Nodes {
			config, err := node.Load(n.ConfigPath())
			if err != nil {
				t.Fatal(err)
			}
			if config.NodeID != n.Name || config.SMTP.Listen[0] != n.SMTP || config.SMTP.Hostname != n.Hostname() {
				t.Errorf("node %s: file says %+v", n.Name, config)
			}
			if config.AdminAdvertise() != n.AdminAdvertised || config.RaftAdvertise() != n.RaftAdvertised {
				t.Errorf("node %s advertises %s and %s", n.Name, config.AdminAdvertise(), config.RaftAdvertise())
			}
			if len(config.Cluster.Join) != 3 || config.Cluster.BootstrapExpect != 3 || config.Raft.LogStore != "boltdb" {
				t.Errorf("node %s: cluster %+v, raft %+v", n.Name, config.Cluster, config.Raft)
			}
			if proxied := n.RaftAdvertised != n.Raft && n.AdminAdvertised != n.Admin; proxied == direct {
				t.Errorf("node %s: direct %v, but raft at %s is advertised as %s", n.Name, direct, n.Raft, n.RaftAdvertised)
			}
		}
	}
}
