package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"holdfast/cluster"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// CheckSnapshot reads a saved snapshot, checks all its checksums, and says what
// it is of.
func CheckSnapshot(file io.Reader) (*pb.SnapshotHeader, error) { return fsm.CheckSnapshot(file) }

// Restoration is what to make a node's data folder from.
type Restoration struct {
	Snapshot io.Reader
	// Deliver leaves pending mail to be delivered; else all of it is held.
	Deliver bool
	// Command is what to run again where it is interrupted.
	Command string
	Now     func() time.Time
	Logger  *slog.Logger
	// Progress is told the recipients marked so far, after the file is read.
	Progress func(recipients uint64)
}

// Restored says what a restoration made.
type Restored struct {
	Header    *pb.SnapshotHeader
	ClusterID string
	fsm.Adopted
}

// commandOfRestore begins Restoration.Command: a folder on which that was
// interrupted has nothing but its leftovers.
const commandOfRestore = "holdfast snapshot restore"

// Restore fills the empty data folder of a node with the state of a snapshot: the
// node is then the first of a new cluster, which the others join. Nothing runs on
// the folder meanwhile. Where it is interrupted the node doesn't start, and
// Restore begins anew; where it fails the folder is empty again.
func Restore(ctx context.Context, cfg Config, r Restoration) (_ *Restored, err error) {
	if err := fsm.MakeDataDir(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	unlock, err := lockFolder(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := emptied(cfg.DataDir); err != nil {
		return nil, err
	}
	if err := cluster.BeginUnfinished(cfg.DataDir, r.Command); err != nil {
		return nil, err
	}
	restored, err := restore(ctx, cfg, r)
	if err != nil {
		if removing := removeData(cfg.DataDir); removing != nil {
			return nil, errors.Join(err, removing) // what is left there must not be started on
		}
		return nil, errors.Join(err, cluster.EndUnfinished(cfg.DataDir))
	}
	return restored, cluster.EndUnfinished(cfg.DataDir)
}

func restore(ctx context.Context, cfg Config, r Restoration) (*Restored, error) {
	first, err := cluster.NewFirstMember(cfg.NodeID, cfg.Raft.LogStore, cfg.RaftAdvertise(), r.Now())
	if err != nil {
		return nil, err
	}
	stateDir := filepath.Join(cfg.DataDir, "state")
	header, err := fsm.UnpackSnapshot(offlineState(stateDir, "", r.Logger), untilDone{ctx, r.Snapshot})
	if err != nil {
		return nil, err
	}
	state, err := fsm.Open(offlineState(stateDir, "", r.Logger))
	if err != nil {
		return nil, err
	}
	adopted, err := adopt(ctx, state, header, first, r)
	if err = errors.Join(err, state.Close()); err != nil {
		return nil, err
	}
	if err := first.WriteLog(cfg.DataDir, header.Term, r.Logger, r.Now); err != nil {
		return nil, err
	}
	return &Restored{Header: header, ClusterID: first.ClusterID, Adopted: adopted}, first.WriteIdentity(cfg.DataDir)
}

func adopt(ctx context.Context, state *fsm.State, header *pb.SnapshotHeader, first *cluster.FirstMember, r Restoration) (fsm.Adopted, error) {
	if err := state.CheckRestored(ctx, header); err != nil {
		return fsm.Adopted{}, err
	}
	text := fmt.Sprintf("restored from a snapshot of %s, index %d",
		time.Unix(0, header.SavedAt).UTC().Format(time.RFC3339), header.Index)
	adoption := fsm.Adoption{
		ClusterID: first.ClusterID, Voter: first.Server, Time: r.Now().UnixNano(), Text: text, Progress: r.Progress,
	}
	if !r.Deliver {
		adoption.Hold = &pb.Operation{Kind: pb.Operation_KIND_HOLD, By: "restore", Reason: text}
	}
	return state.Adopt(ctx, adoption)
}

// untilDone reads until ctx ends.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, fmt.Errorf("interrupted: %w", err)
	}
	return u.Reader.Read(p)
}

// offlineState is the configuration of a state while no node runs on it.
func offlineState(dir, node string, logger *slog.Logger) fsm.Config {
	return fsm.Config{
		Dir: dir, Node: node, Logger: logger, Metrics: prometheus.NewRegistry(),
		Fatal: func(error) {}, // what it is about fails with the same error
	}
}

// dataNames are what makes a folder a node's.
var dataNames = [...]string{"node.json", "raft", "state"}

// emptied refuses a folder with data, and empties one on which a restoration was
// interrupted: before that began it had none.
func emptied(dir string) error {
	if err := cluster.CheckFinished(dir); err != nil {
		if !strings.Contains(err.Error(), commandOfRestore) {
			return err
		}
		return removeData(dir)
	}
	for _, name := range dataNames {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err == nil {
			return fmt.Errorf("%s has data of a node (%s): a snapshot is restored into a new cluster only; stop the node, move the folder away and run this again", dir, name)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func removeData(dir string) error {
	var errs []error
	for _, name := range dataNames {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// lockFolder keeps two restorations from the same folder. It ends with the process.
func lockFolder(dir string) (unlock func() error, err error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is being restored by another process: %w", dir, err), folder.Close())
	}
	return folder.Close, nil
}
