package fsm

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var errFailStop = errors.New("the state has failed: nothing more is written")

// failStop is a disk that takes nothing more once the state has failed. Pebble
// tries a failed flush again, and goes on when its Fatalf returns: what it then
// wrote would build on files that may be on disk by half.
func failStop(fs vfs.FS, failed <-chan struct{}) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpLink, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpFileWrite,
			errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		default:
			return nil
		}
		select {
		case <-failed:
			return errFailStop
		default:
			return nil
		}
	}))
}
