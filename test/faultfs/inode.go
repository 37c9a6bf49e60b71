package faultfs

import (
	"context"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// inode is a node as the kernel knows it. All handles of a file are the same.
type inode struct {
	fs.Inode
	disk *FS
	node *node
}

var (
	_ fs.NodeLookuper  = (*inode)(nil)
	_ fs.NodeGetattrer = (*inode)(nil)
	_ fs.NodeSetattrer = (*inode)(nil)
	_ fs.NodeStatfser  = (*inode)(nil)
	_ fs.NodeReaddirer = (*inode)(nil)
	_ fs.NodeCreater   = (*inode)(nil)
	_ fs.NodeMkdirer   = (*inode)(nil)
	_ fs.NodeMknoder   = (*inode)(nil)
	_ fs.NodeLinker    = (*inode)(nil)
	_ fs.NodeUnlinker  = (*inode)(nil)
	_ fs.NodeRmdirer   = (*inode)(nil)
	_ fs.NodeRenamer   = (*inode)(nil)
	_ fs.NodeOpener    = (*inode)(nil)
	_ fs.NodeReleaser  = (*inode)(nil)
	_ fs.NodeReader    = (*inode)(nil)
	_ fs.NodeWriter    = (*inode)(nil)
	_ fs.NodeAllocater = (*inode)(nil)
	_ fs.NodeFsyncer   = (*inode)(nil)
	_ fs.NodeFlusher   = (*inode)(nil)
)

// handle is an open file; the node has all of its state.
type handle struct{}

// meet lets a call on the node itself run into the faults.
func (i *inode) meet(op Op) (lie bool, errno syscall.Errno) {
	return i.disk.faults.meet(op, i.disk.tree.pathOf(i.node))
}

// meetEntry is meet for a name in this folder.
func (i *inode) meetEntry(op Op, name string) syscall.Errno {
	_, errno := i.disk.faults.meet(op, strings.TrimPrefix(i.disk.tree.pathOf(i.node)+"/"+name, "./"))
	return errno
}

// show gives the kernel a node that it looked up or made.
func (i *inode) show(ctx context.Context, n *node, out *fuse.EntryOut) *fs.Inode {
	i.disk.fill(n, &out.Attr)
	return i.NewInode(ctx, &inode{disk: i.disk, node: n}, fs.StableAttr{Mode: n.kind, Ino: n.ino})
}

func (d *FS) fill(n *node, out *fuse.Attr) {
	size := int64(0)
	if n.content != nil {
		size = n.content.length()
	}
	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()
	out.Ino, out.Mode, out.Nlink = n.ino, n.kind|n.perm, n.links
	if n.kind == unix.S_IFDIR {
		out.Nlink = 2
	}
	out.Size, out.Blksize, out.Blocks = uint64(size), pageSize, uint64(size+511)/512
	out.SetTimes(nil, &n.mod, &n.mod)
}

func (i *inode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n, errno := i.disk.tree.lookup(i.node, name)
	if errno != 0 {
		return nil, errno
	}
	return i.show(ctx, n, out), 0
}

func (i *inode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	i.disk.fill(i.node, &out.Attr)
	return 0
}

// Setattr knows sizes and permissions; owners and times are of no use here.
func (i *inode) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if mode, ok := in.GetMode(); ok {
		i.disk.tree.mu.Lock()
		i.node.perm = mode &^ unix.S_IFMT
		i.disk.tree.mu.Unlock()
	}
	if size, ok := in.GetSize(); ok && i.node.content != nil {
		if _, errno := i.meet(Write); errno != 0 {
			return errno
		}
		if errno := i.node.content.truncate(int64(size)); errno != 0 {
			return errno
		}
	}
	i.disk.fill(i.node, &out.Attr)
	return 0
}

func (i *inode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	var s syscall.Statfs_t
	if err := syscall.Statfs(i.disk.tree.objects, &s); err != nil {
		return fs.ToErrno(err)
	}
	out.FromStatfsT(&s)
	if free := i.disk.free.Load(); free >= 0 {
		out.Bfree, out.Bavail = uint64(free)/uint64(out.Bsize), uint64(free)/uint64(out.Bsize)
	}
	return 0
}

func (i *inode) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	i.disk.tree.mu.Lock()
	defer i.disk.tree.mu.Unlock()
	var list []fuse.DirEntry
	for name, n := range i.node.entries {
		list = append(list, fuse.DirEntry{Name: name, Ino: n.ino, Mode: n.kind})
	}
	slices.SortFunc(list, func(a, b fuse.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return fs.NewListDirStream(list), 0
}

func (i *inode) add(ctx context.Context, name string, kind, mode uint32, out *fuse.EntryOut) (*fs.Inode, *node, syscall.Errno) {
	if errno := i.meetEntry(Create, name); errno != 0 {
		return nil, nil, errno
	}
	n, errno := i.disk.tree.create(i.node, name, kind, mode)
	if errno != 0 {
		return nil, nil, errno
	}
	return i.show(ctx, n, out), n, 0
}

func (i *inode) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	child, n, errno := i.add(ctx, name, unix.S_IFREG, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	i.disk.tree.hold(n)
	return child, &handle{}, 0, 0
}

func (i *inode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child, _, errno := i.add(ctx, name, unix.S_IFDIR, mode, out)
	return child, errno
}

// Mknod is how a socket gets its name.
func (i *inode) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	kind := mode & unix.S_IFMT
	if kind != unix.S_IFSOCK && kind != unix.S_IFREG {
		return nil, syscall.EPERM
	}
	child, _, errno := i.add(ctx, name, kind, mode, out)
	return child, errno
}

func (i *inode) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := i.meetEntry(Create, name); errno != 0 {
		return nil, errno
	}
	n := target.(*inode).node // all inodes of this mount are
	if errno := i.disk.tree.link(n, i.node, name); errno != 0 {
		return nil, errno
	}
	return i.show(ctx, n, out), 0
}

func (i *inode) Unlink(_ context.Context, name string) syscall.Errno {
	if errno := i.meetEntry(Remove, name); errno != 0 {
		return errno
	}
	return i.disk.tree.remove(i.node, name)
}

func (i *inode) Rmdir(ctx context.Context, name string) syscall.Errno { return i.Unlink(ctx, name) }

func (i *inode) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to := parent.(*inode)
	if errno := to.meetEntry(Rename, newName); errno != 0 {
		return errno
	}
	return i.disk.tree.rename(i.node, name, to.node, newName, flags)
}

func (i *inode) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		if _, errno := i.meet(Write); errno != 0 {
			return nil, 0, errno
		}
		if errno := i.node.content.truncate(0); errno != 0 {
			return nil, 0, errno
		}
	}
	i.disk.tree.hold(i.node)
	return &handle{}, fuse.FOPEN_KEEP_CACHE, 0
}

func (i *inode) Release(context.Context, fs.FileHandle) syscall.Errno {
	return i.disk.tree.release(i.node)
}

// Flush comes with each close; nothing is held back, so nothing is to be done.
func (i *inode) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

func (i *inode) Read(_ context.Context, _ fs.FileHandle, into []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, errno := i.node.content.read(into, off)
	return fuse.ReadResultData(into[:n]), errno
}

func (i *inode) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if _, errno := i.meet(Write); errno != 0 {
		return 0, errno
	}
	if errno := i.node.content.write(data, off); errno != 0 {
		return 0, errno
	}
	return uint32(len(data)), 0
}

func (i *inode) Allocate(_ context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	if _, errno := i.meet(Write); errno != 0 {
		return errno
	}
	return i.node.content.allocate(int64(off), int64(size), mode)
}

func (i *inode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	lie, errno := i.meet(Sync)
	if errno != 0 || lie {
		return errno
	}
	return i.disk.tree.sync(i.node)
}
