package faultfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// FS is a mounted file system.
type FS struct {
	backing, mountpoint string
	tree                *tree
	faults              faults
	server              *fuse.Server
	free                atomic.Int64 // bytes to report, -1 for what there is
}

// Available says why nothing can be mounted here, nil where it can.
func Available() error {
	file, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("no FUSE: %w", err)
	}
	if os.Geteuid() != 0 {
		return errors.Join(errors.New("no FUSE: only root can mount it"), file.Close())
	}
	return file.Close()
}

// Mount shows an empty file system at mountpoint, with the contents of its files
// in backing. It makes both folders; backing must be empty.
func Mount(backing, mountpoint string) (*FS, error) {
	objects := filepath.Join(backing, "objects")
	for _, dir := range []string{backing, mountpoint} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(objects, 0o755); err != nil {
		return nil, err
	}
	d := &FS{backing: backing, mountpoint: mountpoint, tree: newTree(objects)}
	d.free.Store(-1)
	return d, d.mount()
}

func (d *FS) mount() error {
	// Nobody else changes the files, so the kernel may believe what it knows.
	known, unknown := time.Hour, time.Duration(0)
	server, err := fs.Mount(d.mountpoint, &inode{disk: d, node: d.tree.root}, &fs.Options{
		EntryTimeout: &known, AttrTimeout: &known, NegativeTimeout: &unknown,
		RootStableAttr: &fs.StableAttr{Ino: d.tree.root.ino},
		MountOptions: fuse.MountOptions{
			DirectMountStrict: true, FsName: "faultfs", Name: "faultfs",
			MaxWrite: 1 << 20, DisableXAttrs: true,
		},
	})
	if err != nil {
		return fmt.Errorf("mount %s: %w", d.mountpoint, err)
	}
	d.server = server
	return nil
}

// ReportFree makes the file system say that so many bytes are free; -1 tells what
// there is. Writes go on either way.
func (d *FS) ReportFree(bytes int64) { d.free.Store(bytes) }

// Inject puts a fault to work.
func (d *FS) Inject(fault Fault) (*Injected, error) { return d.faults.add(fault) }

// LiftAll ends all faults.
func (d *FS) LiftAll() { d.faults.liftAll() }

// PowerCut drops all that wasn't fsynced and mounts what is left. survives, which
// may be nil, is asked for each page and each name that wasn't: a disk may have
// written any of them, in any order. Faults are lifted.
func (d *FS) PowerCut(survives func() bool) error {
	if survives == nil {
		survives = func() bool { return false }
	}
	if err := d.unmount(); err != nil {
		return err
	}
	if err := d.tree.cut(survives); err != nil {
		return fmt.Errorf("power cut of %s: %w", d.mountpoint, err)
	}
	return d.mount()
}

// Close unmounts and leaves the files in the folder "files" of the backing one.
func (d *FS) Close() error {
	if err := d.unmount(); err != nil {
		return err
	}
	if err := d.tree.layOut(filepath.Join(d.backing, "files")); err != nil {
		return err
	}
	return os.Remove(d.tree.objects)
}

func (d *FS) unmount() error {
	d.faults.liftAll()
	if err := d.server.Unmount(); err != nil {
		return fmt.Errorf("unmount %s, is it in use? %w", d.mountpoint, err)
	}
	return nil
}
