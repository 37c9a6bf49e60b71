package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Build compiles the server and gives the path of a copy in dir, which nobody
// changes. It runs within the module, builds as make build does, and keeps what it
// built in the module's build/, since linking anew for each of dozens of tests
// takes minutes.
func Build(ctx context.Context, dir string) (path string, err error) {
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("build holdfast: %w", err)
	}
	shared := filepath.Join(strings.TrimSpace(string(module)), "build", "test", "holdfast")
	if err := os.MkdirAll(filepath.Dir(shared), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(shared + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", shared, "holdfast/cmd/holdfast")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build holdfast: %w\n%s", err, output)
	}
	path = filepath.Join(dir, "holdfast")
	return path, share(shared, path)
}

// lock waits for whoever builds, in this process or another.
func lock(path string) (unlock func() error, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return file.Close, nil
}

// share links a file, which go build replaces and never writes into. It copies one
// on another file system, or of somebody else.
func share(from, to string) error {
	if err := os.Link(from, to); !errors.Is(err, syscall.EXDEV) && !errors.Is(err, os.ErrPermission) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
