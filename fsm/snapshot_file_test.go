package fsm

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	pb "holdfast/proto/holdfast/v1"
)

// saved is a snapshot of a state that has some mail.
func saved(t *testing.T, w *world) []byte {
	t.Helper()
	saving, err := w.state.Save(&pb.SnapshotHeader{Program: "test", Node: "a", SavedAt: 7})
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(saving)
	if err = errors.Join(err, saving.Close()); err != nil {
		t.Fatal(err)
	}
	if int64(len(file)) != saving.Size {
		t.Errorf("the file has %d bytes, %d were announced", len(file), saving.Size)
	}
	return file
}

func TestSnapshotFile(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	w.accept(1, "one@example.test", "two@example.test")
	file := saved(t, w)
	header, err := CheckSnapshot(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if header.Index != w.index || header.Counts.GetPending() != 2 || header.Program != "test" || header.SavedAt != 7 {
		t.Errorf("header %v", header)
	}
	checkSameDigests(t, "header", header.Digests, w.view().Digests())

	// Every byte counts, and every length.
	step := max(1, len(file)/700)
	for at := 0; at < len(file); at += step {
		damaged := bytes.Clone(file)
		damaged[at] ^= 0x10
		wantBad(t, damaged, "damaged", "isn't a snapshot", "cut off", "of format", "no room")
		wantBad(t, file[:at], "cut off", "isn't a snapshot")
	}
	for at := len(file) - 60; at < len(file); at++ {
		wantBad(t, file[:at], "cut off")
	}
	wantBad(t, append(bytes.Clone(file), 0), "something follows its end")
	wantBad(t, []byte("Subject: not one\r\n\r\nHello, world.\r\n"), "isn't a snapshot")
}

func wantBad(t *testing.T, file []byte, words ...string) {
	t.Helper()
	header, err := CheckSnapshot(bytes.NewReader(file))
	if err == nil {
		t.Fatalf("a bad file of %d bytes passes: %v", len(file), header)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("not one line: %v", err)
	}
	for _, word := range words {
		if strings.Contains(err.Error(), word) {
			return
		}
	}
	t.Errorf("%q has none of %q", err, words)
}

// A node sends one snapshot at a time, and keeps no copy of one that ended early.
func TestOneSnapshotAtATime(t *testing.T) {
	disk := vfs.NewMem()
	w := worldOf(t, openState(t, "state", disk))
	w.up("a", 1, 0)
	w.configure(1)
	w.accept(1, "one@example.test")
	first, err := w.state.Save(&pb.SnapshotHeader{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(first, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.state.Save(&pb.SnapshotHeader{}); !errors.Is(err, ErrSaving) {
		t.Errorf("a second save: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := disk.List("state")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, outgoingPrefix) {
			t.Errorf("%s is left", name)
		}
	}
	saved(t, w)
}
