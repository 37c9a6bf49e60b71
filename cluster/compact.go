package cluster

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// compactEvery is how often the trailing log is computed anew: raft's own
// snapshots, by count, use it too.
const compactEvery = 10 * time.Second

// compact truncates the log by bytes. The number of entries says nothing: one
// may be 200 bytes or 512 KiB.
func (c *Cluster) compact(ctx context.Context) {
	ticker := time.NewTicker(compactEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.logs.due:
		case <-c.transport.catchUps.changed:
		case <-ticker.C:
		}
		r := c.raft.Load()
		reload := r.ReloadableConfig()
		reload.TrailingLogs = c.trailingLogs(r)
		if err := r.ReloadConfig(reload); err != nil {
			c.log.Error("set the length of the trailing log", "error", err)
			continue
		}
		if !c.logs.snapshotDue() {
			continue
		}
		written := c.logs.total() // what comes meanwhile may not be in it
		err := r.Snapshot().Error()
		if err == nil {
			c.logs.snapshotTaken(written)
		} else if !errors.Is(err, raft.ErrNothingNewToSnapshot) && ctx.Err() == nil {
			c.log.Warn("snapshot failed, trying again", "error", err)
		}
	}
}

// trailingLogs is how many entries stay behind a snapshot: all of them while a
// follower that was sent the state catches up, within the log's part of the
// disk.
func (c *Cluster) trailingLogs(r *raft.Raft) uint64 {
	last := r.LastIndex()
	trailing := c.logs.trailing(last, c.trailingBytes)
	if r.State() != raft.Leader {
		c.transport.catchUps.forget()
		return trailing
	}
	first := uint64(1)
	if trailing < last {
		first = last - trailing + 1
	}
	if !c.transport.catchUps.need(first, c.cfg.Monotonic()-silence*c.cfg.Timing.Heartbeat) {
		return trailing
	}
	if c.logs.size() > c.maxLogBytes {
		c.log.Warn("truncating the log that a follower needs to catch up: it has its part of the disk", "bytes", c.maxLogBytes)
		return trailing
	}
	return math.MaxUint64
}

// silence is for how many heartbeat time-outs a follower may say nothing
// before the log is truncated without regard to it.
const silence = 40

// logBudget is the log's part of the disk: a tenth.
func logBudget(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Blocks) * st.Bsize / 10, nil
}

// diskUsage is the size of the files below dir.
func diskUsage(dir string) (int64, error) {
	size := int64(0)
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		return nil
	})
	return size, err
}
