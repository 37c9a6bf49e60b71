package faultfs

import (
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
)

// pageSize is the unit in which a disk keeps or loses what was written.
const pageSize = 4096

// content is the bytes of one file: as they are now in the backing file, and
// what it takes to go back to those of the last fsync.
type content struct {
	mu     sync.Mutex // guards all below
	file   *os.File
	size   int64
	synced int64            // size at the last fsync
	undo   map[int64][]byte // pages that were overwritten since, as they were then
}

func newContent(path string) (*content, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &content{file: file, undo: map[int64][]byte{}}, nil
}

func (c *content) length() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

func (c *content) read(into []byte, off int64) (int, syscall.Errno) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off >= c.size {
		return 0, 0
	}
	n, err := c.file.ReadAt(into[:min(int64(len(into)), c.size-off)], off)
	if n > 0 {
		err = nil
	}
	return n, fs.ToErrno(err)
}

func (c *content) write(data []byte, off int64) syscall.Errno {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.keep(off, off+int64(len(data))); err != nil {
		return fs.ToErrno(err)
	}
	if _, err := c.file.WriteAt(data, off); err != nil {
		return fs.ToErrno(err)
	}
	c.size = max(c.size, off+int64(len(data)))
	return 0
}

func (c *content) truncate(size int64) syscall.Errno {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.keep(size, c.synced); err != nil {
		return fs.ToErrno(err)
	}
	return fs.ToErrno(c.resize(size))
}

// allocate is fallocate(2). Space isn't reserved, only sizes and zeros are made.
func (c *content) allocate(off, length int64, mode uint32) syscall.Errno {
	const zeroes = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if mode&^(zeroes|unix.FALLOC_FL_KEEP_SIZE) != 0 {
		return syscall.EOPNOTSUPP
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	end := off + length
	if mode&zeroes != 0 {
		if err := c.keep(off, end); err != nil {
			return fs.ToErrno(err)
		}
		if err := c.zero(off, min(end, c.size)); err != nil {
			return fs.ToErrno(err)
		}
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 && end > c.size {
		return fs.ToErrno(c.resize(end))
	}
	return 0
}

func (c *content) sync() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced = c.size
	clear(c.undo)
}

// cut goes back to the last fsync. survives is asked for each page that was
// written since: a disk may have written any of them.
func (c *content) cut(survives func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	size, lost := c.synced, []int64{}
	for page := c.synced / pageSize; page*pageSize < c.size; page++ {
		// What was appended reaches as far as the last page that survives; those
		// before it that don't are holes.
		if !survives() {
			lost = append(lost, page)
			continue
		}
		size = min((page+1)*pageSize, c.size)
		for _, hole := range lost {
			if err := c.zero(max(hole*pageSize, c.synced), (hole+1)*pageSize); err != nil {
				return err
			}
		}
		lost = lost[:0]
	}
	for page, old := range c.undo {
		if survives() && page*pageSize+int64(len(old)) <= c.size {
			continue
		}
		if _, err := c.file.WriteAt(old, page*pageSize); err != nil {
			return err
		}
	}
	c.synced = size
	clear(c.undo)
	return c.resize(size)
}

// keep saves the synced bytes of the pages from off to end. It wants mu held.
func (c *content) keep(off, end int64) error {
	end = min(end, c.synced)
	for page := off / pageSize; page*pageSize < end; page++ {
		if _, kept := c.undo[page]; kept {
			continue
		}
		old := make([]byte, min(pageSize, c.synced-page*pageSize))
		if _, err := c.file.ReadAt(old, page*pageSize); err != nil {
			return err
		}
		c.undo[page] = old
	}
	return nil
}

func (c *content) zero(off, end int64) error {
	if off >= end {
		return nil
	}
	_, err := c.file.WriteAt(make([]byte, end-off), off)
	return err
}

func (c *content) resize(size int64) error {
	if err := c.file.Truncate(size); err != nil {
		return err
	}
	c.size = size
	return nil
}

func (c *content) drop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.file.Close(); err != nil {
		return err
	}
	return os.Remove(c.file.Name())
}
