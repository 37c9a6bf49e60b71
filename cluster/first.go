package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// FirstMember is the only voter of a new cluster whose state was made while no
// node runs. Its data folder is filled in this order: the state, raft's files
// (WriteLog), and node.json last, without which the folder is no node's.
type FirstMember struct {
	Server    raft.Server
	ClusterID string
	id        identity
}

// NewFirstMember gives a node of a new cluster its raft id; advertise is where
// the others will reach its raft.
func NewFirstMember(node, logStore, advertise string, now time.Time) (*FirstMember, error) {
	id, err := newIdentity(node, logStore, now)
	if err != nil {
		return nil, err
	}
	if id.ClusterID, err = newClusterID(now); err != nil {
		return nil, err
	}
	return &FirstMember{
		Server: raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(id.RaftID),
			Address: raft.ServerAddress(raftAddress(id.RaftID, advertise)),
		},
		ClusterID: id.ClusterID, id: id,
	}, nil
}

// WriteLog makes raft's files: an empty log behind a state of that term.
func (f *FirstMember) WriteLog(dataDir string, term uint64, logger *slog.Logger, now func() time.Time) error {
	s, err := openStores(filepath.Join(dataDir, "raft"), f.id.LogStore, smallSegment, newHCLog(logger, now))
	if err != nil {
		return err
	}
	err = s.setID(f.id.RaftID)
	if err == nil {
		err = s.setTerm(term)
	}
	return errors.Join(err, s.close())
}

// WriteIdentity writes node.json.
func (f *FirstMember) WriteIdentity(dataDir string) error { return f.id.write(dataDir) }

// keyTerm is where raft keeps its current term.
var keyTerm = []byte("CurrentTerm")

// setTerm raises raft's term, never lowers it: an entry of an earlier term must
// not follow one of a later.
func (s *stores) setTerm(term uint64) error {
	current, err := s.term()
	if err != nil || current >= term {
		return err
	}
	if err := s.stable.SetUint64(keyTerm, term); err != nil {
		return fmt.Errorf("set the term: %w", err)
	}
	return nil
}
