package node

import (
	"errors"
	"testing"
	"time"
)

func TestDiskReserve(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	free, size, failure := int64(0), int64(0), error(nil)
	asked := 0
	with := func(configured int64) *disk {
		d := newDisk("/data", configured)
		d.now = func() time.Time { return now }
		d.stat = func(string) (int64, int64, error) { asked++; return free, size, failure }
		return d
	}
	for _, tt := range []struct {
		name                   string
		configured, free, size int64
		reserve                int64
		low                    bool
	}{
		{"a twentieth of a small disk", 0, 499 << 20, 10_000 << 20, 500 << 20, true},
		{"just enough", 0, 500 << 20, 10_000 << 20, 500 << 20, false},
		{"a large disk keeps 1 GiB", 0, 1<<30 - 1, 1 << 40, 1 << 30, true},
		{"as configured", 7 << 30, 6 << 30, 1 << 40, 7 << 30, true},
	} {
		free, size = tt.free, tt.size
		if s := with(tt.configured).space(); s.reserve != tt.reserve || s.low() != tt.low {
			t.Errorf("%s: %+v, low %v", tt.name, s, s.low())
		}
	}

	d := with(0)
	asked = 0
	d.space()
	free = 0
	if d.space().low() || asked != 1 {
		t.Errorf("asked %d times within a second", asked)
	}
	now = now.Add(time.Second)
	if !d.space().low() {
		t.Error("a full disk isn't noticed after a second")
	}
	failure = errors.New("no such folder")
	now = now.Add(time.Second)
	if d.space().low() {
		t.Error("a disk that can't be asked counts as full")
	}
}

func TestStatfs(t *testing.T) {
	free, size, err := statfs(t.TempDir())
	if err != nil || free <= 0 || free > size {
		t.Errorf("%d bytes free of %d, %v", free, size, err)
	}
	if _, _, err := statfs("/nowhere/at/all"); err == nil {
		t.Error("no error for a folder that isn't there")
	}
}
