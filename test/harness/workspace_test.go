package harness_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/harness"
	"holdfast/test/program"
)

func TestWorkspace(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	must(t, os.WriteFile("server", []byte("#!/bin/sh\necho $0\n"), 0o755))
	must(t, os.Symlink("server", "linked"))
	broken := errors.New("a promise was broken")
	for _, tt := range []struct {
		name, binary string
		keep         bool
		fails        error
		kept         bool
	}{
		{"done", "server", false, nil, false},
		{"done, to be kept", "linked", true, nil, true},
		{"failed", filepath.Join(dir, "linked"), false, broken, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := workspace(t, "-binary", tt.binary, "-dir", "data/all")
			if tt.keep {
				w = workspace(t, "-binary", tt.binary, "-dir", "data/all", "-keep")
			}
			var out bytes.Buffer
			err := w.Within(t.Context(), &out, func() error {
				must(t, os.WriteFile(filepath.Join(w.Dir, "log"), nil, 0o600))
				// It works from any folder.
				command := exec.CommandContext(t.Context(), w.Binary)
				command.Dir = "/"
				if output, err := command.Output(); err != nil || strings.TrimSpace(string(output)) != w.Binary {
					t.Errorf("the binary says %q, %v", output, err)
				}
				return tt.fails
			})
			if !errors.Is(err, tt.fails) {
				t.Errorf("error %v, want %v", err, tt.fails)
			}
			if filepath.Dir(w.Dir) != filepath.Join(dir, "data/all") || !strings.HasPrefix(filepath.Base(w.Dir), "probe-") {
				t.Errorf("its folder was %s", w.Dir)
			}
			_, err = os.Stat(filepath.Join(w.Dir, "log"))
			if kept := err == nil; kept != tt.kept {
				t.Errorf("kept: %v, want %v (%v)", kept, tt.kept, err)
			}
			if said := strings.Contains(out.String(), w.Dir); said != tt.kept {
				t.Errorf("it says %q, kept: %v", out.String(), tt.kept)
			}
		})
	}
	if _, err := os.Stat("server"); err != nil {
		t.Error("the binary that was given: ", err)
	}
}

func TestWorkspaceWithoutItsBinary(t *testing.T) {
	w := workspace(t, "-binary", "missing", "-dir", t.TempDir())
	err := w.Within(t.Context(), io.Discard, func() error {
		t.Error("it works without its binary")
		return nil
	})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "-binary") {
		t.Errorf("error %v", err)
	}
}

func workspace(t *testing.T, args ...string) *harness.Workspace {
	t.Helper()
	w := &harness.Workspace{}
	must(t, program.Parse(w.Flags("probe"), args))
	return w
}
