package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// checkDisk refuses file systems that live in memory: an fsync that costs
// nothing makes every figure meaningless.
func checkDisk(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("file system of %s: %w", dir, err)
	}
	switch fs.Type {
	case unix.TMPFS_MAGIC:
		return fmt.Errorf("%s is on tmpfs, which is memory: choose a folder on a disk with -dir", dir)
	case unix.RAMFS_MAGIC:
		return fmt.Errorf("%s is on ramfs, which is memory: choose a folder on a disk with -dir", dir)
	}
	return nil
}

// fsyncLatency is the median time to append 4 KiB to a file and fsync it.
func fsyncLatency(dir string, rounds int) (median time.Duration, err error) {
	path := filepath.Join(dir, "fsync")
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
	block := make([]byte, 4<<10)
	took := make([]time.Duration, rounds)
	for i := range took {
		began := time.Now()
		if _, err := file.Write(block); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[rounds/2], nil
}
