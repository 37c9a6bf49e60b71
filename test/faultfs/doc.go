// Package faultfs is a file system that fails as disks do, for tests of whole
// processes. It is mounted with FUSE, so a server keeps its data on it unchanged:
//
//  1. Mount shows a tree of files at a mount point. Their contents are in a
//     backing folder; the tree itself is in memory.
//  2. Beside what a process sees, each file remembers how it was when it was last
//     fsynced, and each folder which names it then had.
//  3. Inject makes calls that match a path fail, hang, or (fsync) lie, from then on
//     until the fault is lifted.
//  4. PowerCut goes back to what was fsynced and mounts that again. Whoever used
//     the files must have ended, as on a machine without power.
//  5. Close unmounts and lays the tree out in a folder, to be looked at.
//
// Nothing is more durable than POSIX promises: a new, renamed or removed name
// lasts only after an fsync of its folder, and an fsync of a file says nothing
// about its name. sync_file_range never reaches FUSE; it makes nothing durable
// here.
package faultfs
