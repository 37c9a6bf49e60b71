package cluster

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// identity is node.json: whose data folder this is. It is written last when a
// folder is set up, so that without it the folder counts as empty.
type identity struct {
	Node string `json:"node_id"`
	// RaftID is NODE.ULID, new for each data folder: a node that lost its
	// votes must not vote under its old id.
	RaftID   string `json:"raft_id"`
	LogStore string `json:"log_store"`
	// ClusterID is "" until the node has met its cluster.
	ClusterID string `json:"cluster_id"`
}

func newIdentity(node, logStore string, now time.Time) (identity, error) {
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return identity{}, fmt.Errorf("new raft id: %w", err)
	}
	return identity{Node: node, RaftID: node + "." + id.String(), LogStore: logStore}, nil
}

func newClusterID(now time.Time) (string, error) {
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("new cluster id: %w", err)
	}
	return id.String(), nil
}

// nodeOf cuts the node's name out of a raft id.
func nodeOf(raftID string) string {
	if i := strings.LastIndexByte(raftID, '.'); i >= 0 {
		return raftID[:i]
	}
	return raftID
}

func identityPath(dir string) string { return filepath.Join(dir, "node.json") }

// readIdentity reports false where there is no node.json.
func readIdentity(dir string) (identity, bool, error) {
	data, err := os.ReadFile(identityPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, false, nil
	}
	if err != nil {
		return identity{}, false, err
	}
	var id identity
	if err := json.Unmarshal(data, &id); err != nil {
		return identity{}, false, fmt.Errorf("%s: %w", identityPath(dir), err)
	}
	if id.Node == "" || id.RaftID == "" {
		return identity{}, false, fmt.Errorf("%s: node_id or raft_id is missing", identityPath(dir))
	}
	return id, true, nil
}

// write replaces node.json in one step that survives a crash.
func (id identity) write(dir string) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(identityPath(dir), append(data, '\n'))
}

// writeFile replaces a file in one step that survives a crash.
func writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// check refuses the data folder of another node or of another setting.
func (id identity) check(cfg Config) error {
	if id.Node != cfg.Node {
		return fmt.Errorf("%s holds the data of node %q, not of %q: set data_dir or node_id right", cfg.DataDir, id.Node, cfg.Node)
	}
	if id.LogStore != cfg.LogStore {
		return fmt.Errorf("%s was set up with raft.log_store = %q, the node file says %q: to change it, empty the folder and let the node join again", cfg.DataDir, id.LogStore, cfg.LogStore)
	}
	return nil
}
