package faultfs

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// modelNode is the simplest thing that has a now and a synced: full copies.
type modelNode struct {
	dir          bool
	data, synced []byte
	names, kept  map[string]*modelNode
}

func newModelDir() *modelNode {
	return &modelNode{dir: true, names: map[string]*modelNode{}, kept: map[string]*modelNode{}}
}

func (n *modelNode) sync() { n.synced, n.kept = bytes.Clone(n.data), maps.Clone(n.names) }

func (n *modelNode) cut(seen map[*modelNode]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	n.data, n.names = bytes.Clone(n.synced), maps.Clone(n.kept)
	for _, child := range n.names {
		child.cut(seen)
	}
}

// world drives the mount and the model alike.
type world struct {
	*rapid.T
	disk  *FS
	mount string
	root  *modelNode
}

// two folders and few names make collisions likely.
func (w *world) folder(label string) (string, *modelNode) {
	name := rapid.SampledFrom([]string{".", "d", "e"}).Draw(w.T, label)
	if name == "." {
		return w.mount, w.root
	}
	if n := w.root.names[name]; n != nil && n.dir {
		return filepath.Join(w.mount, name), n
	}
	return w.mount, w.root
}

func (w *world) name(label string) string {
	return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.T, label)
}

// file draws an existing file, or skips the step.
func (w *world) file() (string, *modelNode) {
	path, dir := w.folder("folder")
	name := w.name("name")
	n := dir.names[name]
	if n == nil || n.dir {
		w.Skip("no such file")
	}
	return filepath.Join(path, name), n
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) open(path string, flags int, use func(*os.File) error) {
	w.Helper()
	file, err := os.OpenFile(path, flags, 0o600)
	w.ok(err)
	w.ok(use(file))
	w.ok(file.Close())
}

func (w *world) write(*rapid.T) {
	path, dir := w.folder("folder")
	name := w.name("name")
	off := rapid.IntRange(0, 12000).Draw(w.T, "off")
	data := bytes.Repeat([]byte{byte(rapid.IntRange(1, 255).Draw(w.T, "byte"))}, rapid.IntRange(1, 9000).Draw(w.T, "length"))
	n := dir.names[name]
	if n == nil {
		n = &modelNode{}
		dir.names[name] = n
	}
	appending := rapid.Bool().Draw(w.T, "append")
	if appending {
		off = len(n.data)
	}
	if end := off + len(data); end > len(n.data) {
		n.data = append(n.data, make([]byte, end-len(n.data))...)
	}
	copy(n.data[off:], data)
	if appending {
		w.open(filepath.Join(path, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, func(f *os.File) error {
			_, err := f.Write(data)
			return err
		})
		return
	}
	w.open(filepath.Join(path, name), os.O_CREATE|os.O_WRONLY, func(f *os.File) error {
		_, err := f.WriteAt(data, int64(off))
		return err
	})
}

func (w *world) truncate(*rapid.T) {
	path, n := w.file()
	size := rapid.IntRange(0, 15000).Draw(w.T, "size")
	w.ok(os.Truncate(path, int64(size)))
	n.data = append(n.data[:min(size, len(n.data))], make([]byte, max(0, size-len(n.data)))...)
}

func (w *world) allocate(*rapid.T) {
	path, n := w.file()
	off, length := rapid.IntRange(0, 9000).Draw(w.T, "off"), rapid.IntRange(1, 9000).Draw(w.T, "length")
	mode := rapid.SampledFrom([]uint32{
		0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE,
	}).Draw(w.T, "mode")
	w.open(path, os.O_RDWR, func(f *os.File) error {
		return unix.Fallocate(int(f.Fd()), mode, int64(off), int64(length))
	})
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 && off < len(n.data) {
		clear(n.data[off:min(off+length, len(n.data))])
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 && off+length > len(n.data) {
		n.data = append(n.data, make([]byte, off+length-len(n.data))...)
	}
}

func (w *world) rename(*rapid.T) {
	from, dir := w.folder("from")
	to, toDir := w.folder("to")
	name, newName := w.name("name"), w.name("new name")
	n := dir.names[name]
	if n == nil {
		w.Skip("no such file")
	}
	w.ok(os.Rename(filepath.Join(from, name), filepath.Join(to, newName)))
	if toDir.names[newName] == n {
		return
	}
	delete(dir.names, name)
	toDir.names[newName] = n
}

func (w *world) link(*rapid.T) {
	path, n := w.file()
	to, dir := w.folder("to")
	name := w.name("new name")
	err := os.Link(path, filepath.Join(to, name))
	if dir.names[name] != nil {
		if err == nil {
			w.Fatal("linked over a file")
		}
		return
	}
	w.ok(err)
	dir.names[name] = n
}

func (w *world) unlink(*rapid.T) {
	path, dir := w.folder("folder")
	name := w.name("name")
	if dir.names[name] == nil {
		w.Skip("no such file")
	}
	w.ok(os.Remove(filepath.Join(path, name)))
	delete(dir.names, name)
}

func (w *world) mkdir(*rapid.T) {
	name := rapid.SampledFrom([]string{"d", "e"}).Draw(w.T, "name")
	if w.root.names[name] != nil {
		w.Skip("is there")
	}
	w.ok(os.Mkdir(filepath.Join(w.mount, name), 0o700))
	w.root.names[name] = newModelDir()
}

func (w *world) moveDir(*rapid.T) {
	d, e := w.root.names["d"], w.root.names["e"]
	if d == nil || e != nil && len(e.names) > 0 {
		w.Skip("no folder to move")
	}
	// os.Rename refuses what rename(2) does: replacing an empty folder.
	w.ok(unix.Rename(filepath.Join(w.mount, "d"), filepath.Join(w.mount, "e")))
	delete(w.root.names, "d")
	w.root.names["e"] = d
}

func (w *world) rmdir(*rapid.T) {
	n := w.root.names["d"]
	if n == nil {
		w.Skip("no folder")
	}
	err := os.Remove(filepath.Join(w.mount, "d"))
	if len(n.names) > 0 {
		if err == nil {
			w.Fatal("removed a folder with files")
		}
		return
	}
	w.ok(err)
	delete(w.root.names, "d")
}

func (w *world) sync(*rapid.T) {
	path, n := w.file()
	w.open(path, os.O_RDWR, (*os.File).Sync)
	n.sync()
}

func (w *world) syncDir(*rapid.T) {
	path, n := w.folder("folder")
	w.open(path, os.O_RDONLY, (*os.File).Sync)
	n.sync()
}

func (w *world) powerCut(*rapid.T) {
	w.ok(w.disk.PowerCut(nil))
	w.root.cut(map[*modelNode]bool{})
}

func (w *world) check(*rapid.T) { w.compare(w.mount, w.root) }

func (w *world) compare(path string, n *modelNode) {
	if !n.dir {
		data, err := os.ReadFile(path)
		w.ok(err)
		if !bytes.Equal(data, n.data) {
			w.Fatalf("%s has %d bytes, want %d, or other ones", path, len(data), len(n.data))
		}
		return
	}
	entries, err := os.ReadDir(path)
	w.ok(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if want := slices.Sorted(maps.Keys(n.names)); !slices.Equal(got, want) {
		w.Fatalf("%s has %q, want %q", path, got, want)
	}
	for name, child := range n.names {
		w.compare(filepath.Join(path, name), child)
	}
}

// TestModel makes random calls with power cuts between them, and compares all
// names and bytes with a model after each.
func TestModel(t *testing.T) {
	needFUSE(t)
	base, runs := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		mount := filepath.Join(base, fmt.Sprint(runs))
		disk, err := Mount(mount+"-backing", mount)
		if err != nil {
			rt.Fatal(err)
		}
		w := &world{T: rt, disk: disk, mount: mount, root: newModelDir()}
		defer func() {
			if err := disk.Close(); err != nil {
				rt.Error(err)
				return
			}
			w.mount = filepath.Join(mount+"-backing", "files")
			w.compare(w.mount, w.root)
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"write": w.write, "write again": w.write, "truncate": w.truncate, "allocate": w.allocate,
			"rename": w.rename, "link": w.link, "unlink": w.unlink,
			"mkdir": w.mkdir, "move folder": w.moveDir, "rmdir": w.rmdir,
			"sync": w.sync, "sync folder": w.syncDir, "power cut": w.powerCut, "": w.check,
		})
	})
}
