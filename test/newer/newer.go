// Package newer builds the program as its next version may be, for rehearsals of
// an upgrade: the state has a version more, from which on there is another kind
// of event, Rehearsed, and another family with what it said. Each change of the
// settings writes one.
//
//  1. Texts in a few files of the module are changed, and the generated code of
//     the events is made anew.
//  2. The go command builds with these in place of the module's own (-overlay);
//     the module stays as it is.
package newer

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"holdfast/fsm"
)

const (
	// Version is that of the state which the newer program can read.
	Version = fsm.Version + 1
	// Family is what it has more.
	Family = "rehearsed"
)

// Build compiles the newer program into a folder, beside what it is made of, and
// gives its path. It runs within the module, and the folder may lie there too:
// the go command takes no folder for a package that begins with an underscore.
func Build(ctx context.Context, dir string) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	o := overlay{root: root, dir: filepath.Join(dir, "_newer"), Replace: map[string]string{}}
	if err := o.fill(); err != nil {
		return "", fmt.Errorf("the newer program: %w", err)
	}
	list, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "holdfast-newer")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-overlay", file, "-ldflags", "-X main.version=newer", "-o", binary, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the newer program: %w\n%s", err, output)
	}
	return binary, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}

// overlay is what the go command reads: files of the module, and those that it
// takes in their place.
type overlay struct {
	root, dir string
	Replace   map[string]string
}

func (o *overlay) fill() error {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	for path, changes := range changes() {
		text, err := os.ReadFile(filepath.Join(o.root, path))
		if err != nil {
			return err
		}
		for old, changed := range changes {
			if n := strings.Count(string(text), old); n != 1 {
				return fmt.Errorf("%s has %d times, want once: %s", path, n, old)
			}
			text = []byte(strings.Replace(string(text), old, changed, 1))
		}
		if err := o.write(path, string(text)); err != nil {
			return err
		}
	}
	generated, err := events()
	if err != nil {
		return err
	}
	if err := o.write("proto/holdfast/v1/event.pb.go", generated); err != nil {
		return err
	}
	return o.write("fsm/apply_rehearsed.go", apply)
}

func (o *overlay) write(path, text string) error {
	instead := filepath.Join(o.dir, strings.ReplaceAll(path, "/", "-"))
	o.Replace[filepath.Join(o.root, path)] = instead
	return os.WriteFile(instead, []byte(text), 0o600)
}
