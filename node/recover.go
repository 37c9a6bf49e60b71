package node

import (
	"log/slog"
	"time"

	"holdfast/cluster"
	"holdfast/fsm"
)

// Survivor is what is left of a cluster without a quorum.
type Survivor = cluster.Survivor

// OpenSurvivor opens the data folder of a node whose cluster has lost its quorum,
// while no node runs on it.
func OpenSurvivor(dataDir string, logger *slog.Logger) (*Survivor, error) {
	open := func(dir, node string) (*fsm.State, error) { return fsm.Open(offlineState(dir, node, logger)) }
	return cluster.OpenSurvivor(dataDir, open, logger, time.Now)
}
