package fsm

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// markerOrder puts what a marker names on disk before the marker. A marker is an
// empty file whose name says which MANIFEST is current; Pebble 2.1.7 makes the
// MANIFEST, then the marker, and fsyncs the folder once, behind both. A crash
// before that may keep the second name without the first, and the database
// can't be opened any more.
type markerOrder struct {
	vfs.FS
}

const markerPrefix = "marker."

func (m markerOrder) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(m.PathBase(name), markerPrefix) {
		if err := syncDir(m.FS, m.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return m.FS.Create(name, category)
}

func (m markerOrder) Unwrap() vfs.FS { return m.FS }
