package faultfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"holdfast/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func needFUSE(t *testing.T) {
	t.Helper()
	if err := Available(); err != nil {
		t.Skip(err)
	}
}

func mounted(t *testing.T) (*FS, string) {
	t.Helper()
	needFUSE(t)
	dir := t.TempDir()
	mount := filepath.Join(dir, "mount")
	disk, err := Mount(filepath.Join(dir, "backing"), mount)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return disk, mount
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, path string, data string) *os.File {
	t.Helper()
	file, err := os.Create(path)
	must(t, err)
	t.Cleanup(func() { _ = file.Close() }) // where the test didn't
	_, err = file.WriteString(data)
	must(t, err)
	return file
}

func inject(t *testing.T, disk *FS, fault Fault) *Injected {
	t.Helper()
	i, err := disk.Inject(fault)
	must(t, err)
	t.Cleanup(i.Lift)
	return i
}

func syncFolder(t *testing.T, path string) {
	t.Helper()
	dir, err := os.Open(path)
	must(t, err)
	must(t, errors.Join(dir.Sync(), dir.Close()))
}

func TestFaults(t *testing.T) {
	disk, mount := mounted(t)
	must(t, os.MkdirAll(filepath.Join(mount, "raft", "wal"), 0o700))
	log := create(t, filepath.Join(mount, "raft", "wal", "1.wal"), "x")
	other := create(t, filepath.Join(mount, "other"), "x")

	full := inject(t, disk, Fault{Pattern: "raft/**", Ops: Write, Skip: 1, Times: 2, Errno: syscall.ENOSPC})
	for i, want := range []error{nil, syscall.ENOSPC, syscall.ENOSPC, nil} {
		if _, err := log.WriteString("y"); !errors.Is(err, want) {
			t.Errorf("write %d: %v, want %v", i, err, want)
		}
		if _, err := other.WriteString("y"); err != nil {
			t.Errorf("write %d to the other file: %v", i, err)
		}
	}
	if full.Hits() != 2 {
		t.Errorf("%d hits, want 2", full.Hits())
	}
	<-full.Hit()

	broken := inject(t, disk, Fault{Pattern: "raft/wal/*.wal", Ops: Sync | Create | Rename | Remove, Errno: syscall.EIO})
	path := filepath.Join(mount, "raft", "wal", "1.wal")
	for what, err := range map[string]error{
		"fsync":     log.Sync(),
		"fdatasync": unix.Fdatasync(int(log.Fd())),
		"create":    os.WriteFile(filepath.Join(mount, "raft", "wal", "2.wal"), nil, 0o600),
		"link":      os.Link(path, filepath.Join(mount, "raft", "wal", "3.wal")),
		"rename":    os.Rename(filepath.Join(mount, "other"), filepath.Join(mount, "raft", "wal", "4.wal")),
		"remove":    os.Remove(path),
	} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want EIO", what, err)
		}
	}
	broken.Lift()
	must(t, log.Sync())
	must(t, os.Remove(path))
}

func TestFaultIsChecked(t *testing.T) {
	disk, _ := mounted(t)
	for _, fault := range []Fault{
		{Ops: Sync, Errno: syscall.EIO},
		{Pattern: "x", Errno: syscall.EIO},
		{Pattern: "[", Ops: Sync, Errno: syscall.EIO},
		{Pattern: "x", Ops: Sync},
		{Pattern: "x", Ops: Sync, Errno: syscall.EIO, Hang: true},
		{Pattern: "x", Ops: Sync | Write, Lie: true},
		{Pattern: "x", Ops: Sync, Errno: syscall.EIO, Times: -1},
	} {
		if _, err := disk.Inject(fault); err == nil {
			t.Errorf("%+v was taken", fault)
		}
	}
}

func TestHang(t *testing.T) {
	disk, mount := mounted(t)
	file := create(t, filepath.Join(mount, "a"), "x")
	other := create(t, filepath.Join(mount, "b"), "x")
	syncFolder(t, mount)
	hang := inject(t, disk, Fault{Pattern: "a", Ops: Sync, Hang: true})
	done := make(chan error, 1)
	go func() { done <- file.Sync() }()
	<-hang.Hit()
	// Other files go on meanwhile; the kernel has locked this one.
	_, err := other.WriteString("y")
	must(t, errors.Join(err, other.Sync(), other.Close()))
	select {
	case err := <-done:
		t.Fatalf("fsync returned (%v) while it should hang", err)
	default:
	}
	hang.Lift()
	must(t, <-done)
	must(t, file.Close())
	must(t, disk.PowerCut(nil))
	if data, err := os.ReadFile(filepath.Join(mount, "a")); err != nil || string(data) != "x" {
		t.Errorf("after the fsync and a power cut: %q, %v", data, err)
	}
}

func TestLie(t *testing.T) {
	disk, mount := mounted(t)
	file := create(t, filepath.Join(mount, "a"), "true")
	must(t, file.Sync())
	syncFolder(t, mount)
	inject(t, disk, Fault{Pattern: "a", Ops: Sync, Lie: true})
	_, err := file.WriteAt([]byte("false"), 0)
	must(t, err)
	must(t, errors.Join(file.Sync(), file.Close()))
	must(t, disk.PowerCut(nil))
	if data, err := os.ReadFile(filepath.Join(mount, "a")); err != nil || string(data) != "true" {
		t.Errorf("after an fsync that lied and a power cut: %q, %v", data, err)
	}
}

// A file without a name lives as long as it is open, and comes back with a power
// cut where its folder wasn't fsynced after the removal.
func TestUnlinkedWhileOpen(t *testing.T) {
	disk, mount := mounted(t)
	file := create(t, filepath.Join(mount, "a"), "kept")
	must(t, file.Sync())
	syncFolder(t, mount)
	must(t, os.Remove(filepath.Join(mount, "a")))
	_, err := file.WriteAt([]byte("lost"), 4)
	must(t, err)
	data := make([]byte, 8)
	if _, err := file.ReadAt(data, 0); err != nil || string(data) != "keptlost" {
		t.Errorf("of the open file: %q, %v", data, err)
	}
	must(t, file.Close())
	must(t, disk.PowerCut(nil))
	if data, err := os.ReadFile(filepath.Join(mount, "a")); err != nil || string(data) != "kept" {
		t.Errorf("after the power cut: %q, %v", data, err)
	}
	must(t, os.Remove(filepath.Join(mount, "a")))
	syncFolder(t, mount)
	// The kernel tells of the last close when it likes, after close has returned.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, harness.Eventually(ctx, "no backing file", func(context.Context) error {
		objects, err := os.ReadDir(disk.tree.objects)
		if err == nil && len(objects) != 0 {
			err = fmt.Errorf("%d backing files are left", len(objects))
		}
		return err
	}))
}

// TestTorn keeps a part of the unsynced pages: none may be half old, half new,
// synced ones stay as they were, and a rename is there or not.
func TestTorn(t *testing.T) {
	disk, mount := mounted(t)
	const pages = 64
	path := filepath.Join(mount, "a")
	file := create(t, path, string(bytes.Repeat([]byte("o"), pages*pageSize)))
	must(t, file.Sync())
	must(t, create(t, filepath.Join(mount, "b"), "old").Close())
	syncFolder(t, mount)
	// The first half is written again, and as much is appended.
	_, err := file.WriteAt(bytes.Repeat([]byte("n"), pages/2*pageSize), 0)
	must(t, err)
	_, err = file.WriteAt(bytes.Repeat([]byte("n"), pages/2*pageSize), pages*pageSize)
	must(t, err)
	must(t, file.Close())
	must(t, os.Rename(filepath.Join(mount, "b"), filepath.Join(mount, "c")))
	must(t, os.WriteFile(filepath.Join(mount, "d"), nil, 0o600))

	chance := rand.New(rand.NewPCG(1, 2))
	must(t, disk.PowerCut(func() bool { return chance.IntN(2) == 0 }))
	data, err := os.ReadFile(path)
	must(t, err)
	old, written := 0, 0
	for page := range len(data) / pageSize {
		content := data[page*pageSize : (page+1)*pageSize]
		first := content[0]
		if !bytes.Equal(content, bytes.Repeat(content[:1], pageSize)) {
			t.Fatalf("page %d is torn", page)
		}
		switch {
		case page >= pages/2 && page < pages && first != 'o':
			t.Errorf("page %d was synced and is %q", page, first)
		case page < pages/2 && first == 'o', page >= pages && first == 0:
			old++
		case first == 'n':
			written++
		}
	}
	if old == 0 || written == 0 {
		t.Errorf("%d pages are old and %d new, want some of both", old, written)
	}
	_, errB := os.Stat(filepath.Join(mount, "b"))
	_, errC := os.Stat(filepath.Join(mount, "c"))
	if (errB == nil) == (errC == nil) {
		t.Errorf("the renamed file has both names or none: %v, %v", errB, errC)
	}
}

// TestBolt runs a database that reads by mmap and writes by pwrite: what it
// committed is there after a power cut, what it only wrote isn't. The database
// is in another process: a page fault stops the thread it happens in, and with
// it the runtime that should serve the page.
func TestBolt(t *testing.T) {
	if path := os.Getenv("FAULTFS_BOLT"); path != "" {
		useBolt(t, path, os.Getenv("FAULTFS_PUT"), os.Getenv("FAULTFS_WANT"))
		return
	}
	disk, mount := mounted(t)
	bolt := func(put, want string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBolt$")
		command.Env = append(os.Environ(), "FAULTFS_BOLT="+filepath.Join(mount, "db"), "FAULTFS_PUT="+put, "FAULTFS_WANT="+want)
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("put %q, want %q: %v\n%s", put, want, err, output)
		}
	}
	bolt("abcdefghijklmnopqrst", "abcdefghijklmnopqrst")
	syncFolder(t, mount)
	lie := inject(t, disk, Fault{Pattern: "db", Ops: Sync, Lie: true})
	bolt("z", "abcdefghijklmnopqrstz")
	if lie.Hits() == 0 {
		t.Error("the database never asked for an fsync")
	}
	must(t, disk.PowerCut(nil))
	bolt("", "abcdefghijklmnopqrst")
}

func useBolt(t *testing.T, path, put, want string) {
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	value := func(key rune) []byte { return bytes.Repeat([]byte(string(key)), 5000) }
	for _, key := range put {
		must(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return b.Put([]byte(string(key)), value(key))
		}))
	}
	got := ""
	must(t, db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("b")).ForEach(func(k, v []byte) error {
			got += string(k)
			if !bytes.Equal(v, value(rune(k[0]))) {
				t.Errorf("%q is changed", k)
			}
			return nil
		})
	}))
	must(t, db.Close())
	if got != want {
		t.Errorf("the database has %q, want %q", got, want)
	}
}

func TestSocket(t *testing.T) {
	_, mount := mounted(t)
	path := filepath.Join(mount, "s")
	listener, err := net.Listen("unix", path)
	must(t, err)
	conn, err := net.Dial("unix", path)
	must(t, err)
	must(t, errors.Join(conn.Close(), listener.Close()))
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's name is left: %v", err)
	}
}
