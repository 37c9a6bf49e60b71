package cluster

import (
	"context"
	"errors"
	"io/fs"
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
//
// It doesn't yet hold truncation back while a follower receives the state: an
// install that takes longer than the trailing log lasts starts over.
func (c *Cluster) compact(ctx context.Context) {
	ticker := time.NewTicker(compactEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.logs.due:
		case <-ticker.C:
		}
		r := c.raft.Load()
		reload := r.ReloadableConfig()
		reload.TrailingLogs = c.logs.trailing(r.LastIndex(), c.trailingBytes)
		if err := r.ReloadConfig(reload); err != nil {
			c.log.Error("set the length of the trailing log", "error", err)
			continue
		}
		if !c.logs.snapshotDue() {
			continue
		}
		err := r.Snapshot().Error()
		if err == nil {
			c.logs.snapshotTaken()
		} else if !errors.Is(err, raft.ErrNothingNewToSnapshot) && ctx.Err() == nil {
			c.log.Warn("snapshot failed, trying again", "error", err)
		}
	}
}

// trailingBudget is limit, or a tenth of the disk where that is less.
func trailingBudget(dir string, limit int64) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return min(limit, int64(st.Blocks)*st.Bsize/10), nil
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
