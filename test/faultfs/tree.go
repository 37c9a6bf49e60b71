package faultfs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
)

// node is a file, a folder or a socket. The tree's mutex guards what can change.
type node struct {
	ino  uint64
	kind uint32 // S_IFREG, S_IFDIR or S_IFSOCK
	perm uint32
	mod  time.Time

	// One of its names, the last one made: faults go by it.
	parent *node
	name   string
	links  uint32

	content *content         // of a file
	entries map[string]*node // of a folder
	synced  map[string]*node // entries at its last fsync
	opened  int
}

// tree is all nodes. Names change under its mutex, contents under their own.
type tree struct {
	objects string // folder of the backing files, named by ino

	mu    sync.Mutex // guards all below and the nodes
	root  *node
	nodes map[uint64]*node
	last  uint64
}

func newTree(objects string) *tree {
	t := &tree{objects: objects, nodes: map[uint64]*node{}}
	t.root, _ = t.add(unix.S_IFDIR, 0o755) // only files can fail
	return t
}

// add makes a node without a name. It wants mu held, but for the root.
func (t *tree) add(kind, perm uint32) (*node, error) {
	t.last++
	n := &node{ino: t.last, kind: kind, perm: perm &^ unix.S_IFMT, mod: time.Now()}
	switch kind {
	case unix.S_IFDIR:
		n.entries, n.synced = map[string]*node{}, map[string]*node{}
	case unix.S_IFREG:
		var err error
		if n.content, err = newContent(filepath.Join(t.objects, fmt.Sprint(n.ino))); err != nil {
			return nil, err
		}
	}
	t.nodes[n.ino] = n
	return n, nil
}

// path is where a node is, or was last, relative to the root. It wants mu held.
func (t *tree) path(n *node) string {
	if n.parent == nil {
		return "."
	}
	return path.Join(t.path(n.parent), n.name)
}

func (t *tree) pathOf(n *node) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.path(n)
}

func (t *tree) lookup(dir *node, name string) (*node, syscall.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := dir.entries[name]; n != nil {
		return n, 0
	}
	return nil, syscall.ENOENT
}

func (t *tree) create(dir *node, name string, kind, perm uint32) (*node, syscall.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if dir.entries[name] != nil {
		return nil, syscall.EEXIST
	}
	n, err := t.add(kind, perm)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	t.attach(dir, name, n)
	return n, 0
}

func (t *tree) link(n, dir *node, name string) syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	if dir.entries[name] != nil {
		return syscall.EEXIST
	}
	t.attach(dir, name, n)
	return 0
}

// attach wants mu held, as detach does.
func (t *tree) attach(dir *node, name string, n *node) {
	dir.entries[name] = n
	dir.mod = time.Now()
	n.parent, n.name = dir, name
	n.links++
}

func (t *tree) detach(dir *node, name string) {
	dir.entries[name].links--
	dir.mod = time.Now()
	delete(dir.entries, name)
}

// remove is unlink and rmdir: a folder must be empty.
func (t *tree) remove(dir *node, name string) syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := dir.entries[name]
	switch {
	case n == nil:
		return syscall.ENOENT
	case len(n.entries) > 0:
		return syscall.ENOTEMPTY
	}
	t.detach(dir, name)
	return t.sweep()
}

func (t *tree) rename(from *node, name string, to *node, newName string, flags uint32) syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, old := from.entries[name], to.entries[newName]
	switch {
	case flags&^unix.RENAME_NOREPLACE != 0:
		return syscall.EINVAL
	case n == nil:
		return syscall.ENOENT
	case n == old: // two names of one file: rename(2) leaves both
		return 0
	case old != nil && flags&unix.RENAME_NOREPLACE != 0:
		return syscall.EEXIST
	case old != nil && old.kind == unix.S_IFDIR && n.kind != unix.S_IFDIR:
		return syscall.EISDIR
	case old != nil && old.kind != unix.S_IFDIR && n.kind == unix.S_IFDIR:
		return syscall.ENOTDIR
	case old != nil && len(old.entries) > 0:
		return syscall.ENOTEMPTY
	}
	if old != nil {
		t.detach(to, newName)
	}
	t.detach(from, name)
	t.attach(to, newName, n)
	return t.sweep()
}

// sync makes a file's content or a folder's names durable.
func (t *tree) sync(n *node) syscall.Errno {
	if n.content != nil {
		n.content.sync()
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n.synced = maps.Clone(n.entries)
	return t.sweep()
}

func (t *tree) hold(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.opened++
}

func (t *tree) release(n *node) syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.opened--
	if n.opened > 0 || n.links > 0 {
		return 0
	}
	return t.sweep()
}

// cut goes back to what was fsynced: the names first, since they decide which
// contents are there at all.
func (t *tree) cut(survives func() bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		n.links, n.opened = 0, 0
	}
	r := restoring{survives: survives, seen: map[*node]bool{}, moved: map[*node]bool{}}
	if err := r.restore(t.root); err != nil {
		return err
	}
	return errnoError(t.sweep())
}

type restoring struct {
	survives func() bool
	seen     map[*node]bool
	moved    map[*node]bool
}

// moves decides once for a node, so that a rename survives whole or not at all.
func (r *restoring) moves(n *node) bool {
	moved, decided := r.moved[n]
	if !decided {
		moved = r.survives()
		r.moved[n] = moved
	}
	return moved
}

func (r *restoring) restore(n *node) error {
	if r.seen[n] {
		return nil
	}
	r.seen[n] = true
	if n.content != nil {
		return n.content.cut(r.survives)
	}
	names := maps.Clone(n.synced)
	for name, now := range n.entries {
		if names[name] != now && r.moves(now) {
			names[name] = now
		}
	}
	for name, then := range n.synced {
		if n.entries[name] == nil && r.moves(then) {
			delete(names, name)
		}
	}
	n.entries, n.synced = names, maps.Clone(names)
	for name, child := range names {
		child.parent, child.name = n, name
		child.links++
		if err := r.restore(child); err != nil {
			return err
		}
	}
	return nil
}

// sweep drops the nodes that nothing leads to any more: no name now, none that
// a power cut would bring back, and nobody who has them open. It wants mu held.
func (t *tree) sweep() syscall.Errno {
	alive := map[*node]bool{}
	var mark func(n *node)
	mark = func(n *node) {
		if alive[n] {
			return
		}
		alive[n] = true
		for _, names := range []map[string]*node{n.entries, n.synced} {
			for _, child := range names {
				mark(child)
			}
		}
	}
	mark(t.root)
	for _, n := range t.nodes {
		if n.opened > 0 {
			mark(n)
		}
	}
	for ino, n := range t.nodes {
		if alive[n] {
			continue
		}
		delete(t.nodes, ino)
		if n.content != nil {
			if err := n.content.drop(); err != nil {
				return fs.ToErrno(err)
			}
		}
	}
	return 0
}

// layOut gives the files their names in a folder, and closes them.
func (t *tree) layOut(dir string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var walk func(n *node, to string) error
	walk = func(n *node, to string) error {
		switch n.kind {
		case unix.S_IFREG:
			return os.Link(n.content.file.Name(), to)
		case unix.S_IFDIR:
			if err := os.MkdirAll(to, 0o755); err != nil {
				return err
			}
		}
		for name, child := range n.entries {
			if err := walk(child, filepath.Join(to, name)); err != nil {
				return err
			}
		}
		return nil
	}
	errs := []error{walk(t.root, dir)}
	for _, n := range t.nodes {
		if n.content != nil {
			errs = append(errs, n.content.drop())
		}
	}
	return errors.Join(errs...)
}

func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
