package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/node"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

func TestSnapshotSaveAndInspect(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	dir := t.TempDir()
	file := filepath.Join(dir, "one.snapshot")
	r := sh.run(t, "snapshot", "save", file)
	if r.status != exitDone || !strings.Contains(r.out, "saved "+file) || r.err != "" {
		t.Fatalf("%+v", r)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: people's mail is for its owner alone", info, err)
	}
	r = sh.run(t, "snapshot", "inspect", file)
	if r.status != exitDone || !strings.Contains(r.out, file+" is whole") || !strings.Contains(r.out, "3 pending, 0 held, 0 frozen, 0 in doubt; 1 delivered, 0 failed") {
		t.Errorf("%+v", r)
	}
	header := inspected(t, sh, file)
	if header.Stale || header.Pending != 3 || header.Delivered != 1 || header.SavedAt == nil || len(header.Digests) == 0 {
		t.Errorf("%+v", header)
	}

	// Progress is for people.
	if r = (shell{env: sh.env, terminal: true}).run(t, "snapshot", "save", file); r.status != exitDone {
		t.Errorf("%+v", r)
	}
	w.LoseQuorum(errors.New("no leader"))
	r = sh.run(t, "snapshot", "save", file)
	if r.status != exitDone || !strings.Contains(r.err, "stale") {
		t.Errorf("%+v", r)
	}
	if !inspected(t, sh, file).Stale {
		t.Error("the file doesn't say that it may be old")
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func inspected(t *testing.T, sh shell, file string) (header snapshotJSON) {
	t.Helper()
	r := sh.run(t, "snapshot", "inspect", "--json", file)
	if r.status != exitDone || strings.Count(r.out, "\n") != 1 {
		t.Fatalf("%+v", r)
	}
	if err := json.Unmarshal([]byte(r.out), &header); err != nil {
		t.Fatal(err)
	}
	return header
}

// A bad file is named in one line.
func TestSnapshotOfABadFile(t *testing.T) {
	w := admintest.Start(t)
	sh := shellFor(w)
	file := filepath.Join(t.TempDir(), "one.snapshot")
	if r := sh.run(t, "snapshot", "save", file); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	for words, content := range map[string][]byte{
		"it is damaged":                     damaged,
		"it is cut off":                     whole[:len(whole)-1],
		"it isn't a snapshot of holdfast":   []byte("From: a@b.test\r\n\r\nHello, this is a message.\r\n"),
		"isn't a snapshot of holdfast":      nil,
		"format \"99\", this program knows": append([]byte("HFSNAP99"), whole[8:]...),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		wantError(t, sh.run(t, "snapshot", "inspect", file), exitFailed, words)
	}
	wantError(t, sh.run(t, "snapshot", "inspect", file+".none"), exitFailed, "no such file")
	wantError(t, sh.run(t, "snapshot", "save", filepath.Dir(file)), exitUsage, "is a folder: name a file in it")
	wantError(t, sh.run(t, "snapshot", "save", filepath.Join(file, "below")), exitFailed, "not a directory")
	wantError(t, sh.run(t, "snapshot", "restore", file), exitUsage, "--config NODE-FILE")
	wantError(t, sh.run(t, "cluster", "recover"), exitUsage, "--data-dir DIR")
	wantError(t, sh.run(t, "cluster", "recover", "--data-dir", t.TempDir()), exitUsage, "run it on a terminal, or with --yes")
}

// Restored without a node running, a folder is whole, or empty where it fails.
func TestSnapshotRestoreOffline(t *testing.T) {
	w, _ := scene(t)
	sh := shellFor(w)
	dir := t.TempDir()
	file, config, data := filepath.Join(dir, "one.snapshot"), filepath.Join(dir, "holdfast.toml"), filepath.Join(dir, "data")
	if r := sh.run(t, "snapshot", "save", file); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	text := "node_id = \"n\"\ndata_dir = \"" + data + "\"\n[smtp]\nlisten = [\"127.0.0.1:2525\"]\nhostname = \"mx.test\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.snapshot")
	if err := os.WriteFile(bad, whole[:len(whole)*3/4], 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, sh.run(t, "snapshot", "restore", bad, "--config", config), exitFailed, "it is cut off")
	if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
		t.Errorf("a failed restore leaves %v, %v", left, err)
	}
	r := sh.run(t, "snapshot", "restore", file, "--config", config)
	if r.status != exitDone || !strings.Contains(r.out, "node n is the first of the new cluster") ||
		!strings.Contains(r.out, "in doubt now: 3 recipients") || !strings.Contains(r.out, "pending mail is held") {
		t.Errorf("%+v", r)
	}
	wantError(t, sh.run(t, "snapshot", "restore", file, "--config", config), exitFailed, "has data of a node")
	r = sh.run(t, "cluster", "recover", "--data-dir", data, "--dry-run")
	if r.status != exitDone || !strings.Contains(r.out, "The voters are n.") {
		t.Errorf("%+v", r)
	}
}

// The one that goes furthest is of the cluster that all are of, whatever their order.
func TestFurthestSurvivor(t *testing.T) {
	of := func(cluster string, term, index uint64) *node.Survivor {
		return &node.Survivor{Cluster: cluster, LastTerm: term, LastIndex: index}
	}
	short, long := of("x", 5, 80), of("x", 5, 90)
	for _, all := range [][]*node.Survivor{{short, long}, {long, short}} {
		if best, err := furthest(all); best != long || err != nil {
			t.Errorf("%v, %v", best, err)
		}
	}
	for _, all := range [][]*node.Survivor{{short, of("y", 9, 1)}, {of("y", 9, 1), short}, {short, of("y", 1, 1)}} {
		if best, err := furthest(all); err == nil {
			t.Errorf("of two clusters %v is taken", best)
		}
	}
}

// A snapshot's words are those of the queue's counts.
func TestFailedInASnapshot(t *testing.T) {
	if got := toSnapshotJSON(&pb.SnapshotHeader{Counts: &pb.CounterRecord{Ended: 2, Frozen: 3}}, 0); got.Failed != 5 || got.Frozen != 3 {
		t.Errorf("%+v", got)
	}
}
