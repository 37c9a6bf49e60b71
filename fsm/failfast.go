package fsm

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// failFast calls fatal at a write or fsync of the live generation that fails,
// before Pebble learns of it: Pebble 2.1.7 can panic where the write of a blob
// file fails, and its own error names neither file nor call after an fsync.
type failFast struct {
	vfs.FS
	dir   string // of the generation
	fatal func(error)
}

func (f failFast) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return f.watch(name, file, err)
}

func (f failFast) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, category, opts...)
	return f.watch(name, file, err)
}

func (f failFast) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	return f.watch(newname, file, err)
}

func (f failFast) Unwrap() vfs.FS { return f.FS }

// watch leaves files elsewhere alone: a checkpoint that fails is only not sent.
func (f failFast) watch(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || f.PathDir(name) != f.dir {
		return file, err
	}
	return &failFastFile{File: file, name: name, fatal: f.fatal}, nil
}

type failFastFile struct {
	vfs.File
	name  string
	fatal func(error)
}

func (f *failFastFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.check("write", err)
}

func (f *failFastFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.check("write", err)
}

func (f *failFastFile) Sync() error { return f.check("fsync", f.File.Sync()) }

func (f *failFastFile) SyncData() error { return f.check("fsync", f.File.SyncData()) }

func (f *failFastFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.check("fsync", err)
}

func (f *failFastFile) check(call string, err error) error {
	if err == nil {
		return nil
	}
	reason := fmt.Errorf("state: %s %s: %w", call, f.name, err)
	if _, says := errors.AsType[*fs.PathError](err); says {
		reason = fmt.Errorf("state: %w", err)
	}
	f.fatal(reason)
	return err
}
