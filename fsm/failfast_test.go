package fsm

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A failed write or fsync in the generation is fatal before its caller learns of
// it, and says where; the same elsewhere is the caller's to judge.
func TestFailFast(t *testing.T) {
	var broken atomic.Bool
	mem := vfs.NewMem()
	for _, dir := range []string{"gen-1", "outgoing-1"} {
		if err := mem.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	disk := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind != errorfs.OpCreate {
			return syscall.EIO
		}
		return nil
	}))
	var fatal []string
	fs := failFast{FS: disk, dir: "gen-1", fatal: func(err error) { fatal = append(fatal, err.Error()) }}
	calls := func(name string) (errs []error) {
		file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.Write([]byte("x"))
		errs = append(errs, err)
		_, err = file.SyncTo(1)
		return append(errs, err, file.Sync(), file.SyncData())
	}
	for _, err := range calls("gen-1/1.blob") {
		if err != nil || len(fatal) > 0 {
			t.Fatalf("on a good disk: %v, fatal %q", err, fatal)
		}
	}
	broken.Store(true)
	for name, want := range map[string]int{"outgoing-1/2.blob": 0, "gen-1/2.blob": 4} {
		fatal = nil
		for _, err := range calls(name) {
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: %v, want EIO", name, err)
			}
		}
		if len(fatal) != want {
			t.Errorf("%s: fatal %q, want %d calls", name, fatal, want)
		}
		for i, text := range fatal {
			call := "fsync"
			if i == 0 {
				call = "write"
			}
			if !strings.HasPrefix(text, "state: "+call+" gen-1/2.blob: ") {
				t.Errorf("call %d says %q", i, text)
			}
		}
	}
}
