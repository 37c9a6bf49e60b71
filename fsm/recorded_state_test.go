package fsm

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// recordState is the data folder of a state that has folded the first half of a
// log and was closed, as a tar archive.
func recordState(t *testing.T, entries []*raft.Log) []byte {
	dir := t.TempDir()
	state := mustOpen(t, dir, nil)
	fold(t, state, entries[:len(entries)/2]...)
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := errorOf(w.AddFS(os.DirFS(dir)), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpackState makes a folder of an archive.
func unpackState(t *testing.T, path string) string {
	dir := t.TempDir()
	r := tar.NewReader(bytes.NewReader(unzipped(t, path)))
	for {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, head.Name)
		if head.FileInfo().IsDir() {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err := errorOf(err, os.WriteFile(name, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
