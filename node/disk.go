package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// Of the file system, or so many bytes if that is less.
const (
	reservePart = 20 // a twentieth
	reserveMost = 1 << 30
)

// disk is the file system of the data folder. New mail stops while its reserve
// is reached, so that there is room to write down what becomes of the mail that
// is there.
type disk struct {
	dir        string
	configured int64 // bytes to keep free, 0 for a part of the whole
	now        func() time.Time
	stat       func(dir string) (free, size int64, err error)

	mu   sync.Mutex // guards the fields below
	at   time.Time
	last space

	// fullUntil is until when it counts as full for a drill.
	fullUntil time.Time
}

// space is how things stand on a disk, in bytes.
type space struct {
	free, size, reserve int64
	drilled             bool // counts as full, whatever is free
	err                 error
}

func newDisk(dir string, reserve int64) *disk {
	return &disk{dir: dir, configured: reserve, now: time.Now, stat: statfs}
}

// statfs counts what an ordinary user may still write.
func statfs(dir string) (free, size int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, int64(s.Blocks) * s.Bsize, nil
}

// space is at most a second old.
func (d *disk) space() space {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.now(); now.Sub(d.at) >= time.Second || now.Before(d.at) {
		d.at = now
		d.last.free, d.last.size, d.last.err = d.stat(d.dir)
		d.last.reserve = d.configured
		if d.configured == 0 {
			d.last.reserve = min(reserveMost, d.last.size/reservePart)
		}
	}
	s := d.last
	s.drilled = d.now().Before(d.fullUntil)
	return s
}

// countAsFull is for drills; 0 ends it.
func (d *disk) countAsFull(lasting time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fullUntil = d.now().Add(lasting)
}

// low: a disk that can't be asked isn't known to be full; a write that fails on
// it ends the node anyway.
func (s space) low() bool { return s.drilled || s.err == nil && s.free < s.reserve }

func (d *disk) register(r prometheus.Registerer) {
	gauge := func(name, help string, value func(space) int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			return float64(value(d.space()))
		}))
	}
	gauge("holdfast_disk_free_bytes", "Free space of the data folder's file system.", func(s space) int64 { return s.free })
	gauge("holdfast_disk_size_bytes", "Size of the data folder's file system.", func(s space) int64 { return s.size })
	gauge("holdfast_disk_reserve_bytes", "Free space below which new mail is answered 452.", func(s space) int64 { return s.reserve })
}
