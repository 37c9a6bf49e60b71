package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"holdfast/fsm"
)

// Survivor is the data folder of a node whose cluster has lost its quorum, opened
// while no node runs on it. Close it.
type Survivor struct {
	DataDir string
	Node    string
	RaftID  string
	Cluster string
	// LastTerm and LastIndex are of the last entry that it has: the survivor with
	// the highest pair has the most.
	LastTerm, LastIndex uint64
	// Latest is when that entry was written.
	Latest time.Time
	// Voters are the members that vote in its latest configuration.
	Voters []raft.Server
	// InDoubt is how many recipients Recover has marked.
	InDoubt uint64

	id     identity
	stores *stores
	state  *fsm.State
	log    *slog.Logger
}

// OpenSurvivor refuses a folder that a node has open, and one that isn't whole.
func OpenSurvivor(dataDir string, open func(dir, node string) (*fsm.State, error), logger *slog.Logger, now func() time.Time) (_ *Survivor, err error) {
	id, found, err := readIdentity(dataDir)
	if err == nil && !found {
		err = fmt.Errorf("%s is no node's data folder: it has no node.json", dataDir)
	}
	if err != nil {
		return nil, err
	}
	s := &Survivor{DataDir: dataDir, Node: id.Node, RaftID: id.RaftID, Cluster: id.ClusterID, id: id, log: logger}
	if s.stores, err = openStores(filepath.Join(dataDir, "raft"), id.LogStore, smallSegment, newHCLog(logger, now)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err = s.stores.checkID(id.RaftID); err != nil {
		return nil, err
	}
	if s.state, err = open(filepath.Join(dataDir, "state"), id.Node); err != nil {
		return nil, err
	}
	if err = s.stores.reconcile(s.state.AppliedIndex(), logger); err != nil {
		return nil, err
	}
	return s, s.read()
}

// Close gives the folder up.
func (s *Survivor) Close() error {
	var err error
	if s.state != nil {
		err = s.state.Close()
		s.state = nil
	}
	if s.stores != nil {
		err = errors.Join(err, s.stores.close())
		s.stores = nil
	}
	return err
}

// read finds the last entry and the latest configuration: in the log where that
// has one, else in the state.
func (s *Survivor) read() error {
	first, err := s.stores.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.stores.log.LastIndex()
	if err != nil {
		return err
	}
	applied := s.state.Applied()
	s.LastIndex, s.LastTerm, s.Latest = applied.Index, applied.Term, time.Unix(0, applied.Clock)
	configuration, _ := s.state.Configuration()
	for index := max(first, applied.Index+1); index <= last && last > 0; index++ {
		entry := &raft.Log{}
		if err := s.stores.log.GetLog(index, entry); err != nil {
			return fmt.Errorf("read entry %d of the log: %w", index, err)
		}
		s.LastIndex, s.LastTerm = max(s.LastIndex, entry.Index), max(s.LastTerm, entry.Term)
		s.Latest = entry.AppendedAt
		if entry.Type == raft.LogConfiguration {
			configuration = raft.DecodeConfiguration(entry.Data)
		}
	}
	if s.Cluster == "" || s.LastIndex == 0 {
		return fmt.Errorf("%s has no data of a cluster: nothing to recover", s.DataDir)
	}
	s.Voters = slices.DeleteFunc(slices.Clone(configuration.Servers), func(server raft.Server) bool { return server.Suffrage != raft.Voter })
	return nil
}

// VoterNames are the voters' names.
func (s *Survivor) VoterNames() []string {
	var names []string
	for _, server := range s.Voters {
		names = append(names, nodeOf(string(server.ID)))
	}
	return names
}

// Exceeds reports whether it has more of the log than another.
func (s *Survivor) Exceeds(other *Survivor) bool {
	return s.LastTerm > other.LastTerm || s.LastTerm == other.LastTerm && s.LastIndex > other.LastIndex
}

// redo folds the rest of the log into the state: what a quorum has acknowledged
// and this survivor has is among it.
func (s *Survivor) redo() error {
	last, err := s.stores.log.LastIndex()
	if err != nil {
		return err
	}
	return s.state.Redo(1, last, s.stores.log.GetLog)
}

// Recover makes the survivor the only voter of a cluster of its own, under a new
// id: nodes of the old one, should they come back, are foreign to it. After a
// crash at any step the node doesn't start until Recover has been carried to its
// end, and nothing is lost: the log goes when all of it is in the state, on disk.
func (s *Survivor) Recover(ctx context.Context, now time.Time, command string) (clusterID string, err error) {
	if clusterID, err = newClusterID(now); err != nil {
		return "", err
	}
	for _, step := range s.steps(ctx, clusterID, now, command) {
		if err := step(); err != nil {
			return "", err
		}
	}
	s.Cluster = clusterID
	return clusterID, nil
}

// steps of Recover, in their order. Each can be done again.
func (s *Survivor) steps(ctx context.Context, clusterID string, now time.Time, command string) []func() error {
	return []func() error{
		func() error { return BeginUnfinished(s.DataDir, command) },
		s.nextTerm,
		s.redo,
		func() error { return s.inherit(ctx, clusterID, now) },
		func() error {
			s.id.ClusterID = clusterID
			return s.id.write(s.DataDir)
		},
		// A node that joins must not be sent entries of another cluster.
		s.dropLog,
		func() error { return EndUnfinished(s.DataDir) },
	}
}

// nextTerm is one later than any that the survivor has seen.
func (s *Survivor) nextTerm() error {
	term, err := s.stores.term()
	if err != nil {
		return err
	}
	s.LastTerm = max(term, s.LastTerm) + 1
	return s.stores.setTerm(s.LastTerm)
}

func (s *Survivor) inherit(ctx context.Context, clusterID string, now time.Time) error {
	self, err := s.self()
	if err != nil {
		return err
	}
	inherited, err := s.state.Inherit(ctx, fsm.Adoption{
		ClusterID: clusterID, Voter: self, Time: now.UnixNano(), LastIndex: s.LastIndex, Term: s.LastTerm,
		Text: fmt.Sprintf("recovered from the log of node %s up to index %d: the lost nodes may have gone on", s.Node, s.LastIndex),
	})
	s.LastIndex, s.InDoubt = inherited.Index, inherited.InDoubt
	return err
}

// dropLog deletes the log, all of which the state has on disk.
func (s *Survivor) dropLog() error {
	durable, err := s.state.DurableIndex()
	if err != nil {
		return err
	}
	first, err := s.stores.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.stores.log.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	if durable <= last {
		return fmt.Errorf("the state is on disk up to %d only, the log ends at %d", durable, last)
	}
	return s.stores.log.DeleteRange(first, last)
}

// self is this node's entry in the configuration, as a voter.
func (s *Survivor) self() (raft.Server, error) {
	configuration, _ := s.state.Configuration()
	for _, server := range slices.Concat(s.Voters, configuration.Servers) {
		if string(server.ID) == s.RaftID {
			server.Suffrage = raft.Voter
			return server, nil
		}
	}
	return raft.Server{}, fmt.Errorf("node %s isn't a member of the cluster any more: it can't go on with it", s.Node)
}

// term is raft's current term, 0 where there was none.
func (s *stores) term() (uint64, error) {
	term, err := s.stable.GetUint64(keyTerm)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	return term, err
}
