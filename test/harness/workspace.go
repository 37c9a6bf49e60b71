package harness

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Workspace is where a program runs its clusters, and with which binary. Until
// Within both are as the flags say.
type Workspace struct {
	Binary string // the holdfast executable
	Dir    string // for data and logs
	name   string
	keep   bool
}

// Flags are those that say so; the program adds its own.
func (w *Workspace) Flags(name string) *flag.FlagSet {
	w.name = name
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&w.Binary, "binary", "", "holdfast executable; built where empty")
	flags.StringVar(&w.Dir, "dir", "build", "folder for data and logs, on a real disk")
	flags.BoolVar(&w.keep, "keep", false, "keep data and logs; they are kept after a failure anyway")
	return flags
}

// Within makes a new folder within Dir, with the binary in it, and these are Dir
// and Binary while work is done. Work that fails leaves the folder, and a line on
// out says where it is.
func (w *Workspace) Within(ctx context.Context, out io.Writer, work func() error) (err error) {
	if err := os.MkdirAll(w.Dir, 0o755); err != nil {
		return err
	}
	base, err := filepath.Abs(w.Dir)
	if err != nil {
		return err
	}
	if w.Dir, err = os.MkdirTemp(base, w.name+"-"); err != nil {
		return err
	}
	defer func() {
		if err != nil || w.keep {
			fmt.Fprintln(out, "data and logs are in", w.Dir)
			return
		}
		err = os.RemoveAll(w.Dir)
	}()
	if w.Binary, err = w.binary(ctx); err != nil {
		return err
	}
	return work()
}

// binary is one that nobody builds anew while nodes are started with it.
func (w *Workspace) binary(ctx context.Context) (string, error) {
	if w.Binary == "" {
		return Build(ctx, w.Dir)
	}
	given, err := filepath.EvalSymlinks(w.Binary)
	if err != nil {
		return "", fmt.Errorf("-binary: %w", err)
	}
	own := filepath.Join(w.Dir, "holdfast")
	if err := share(given, own); err != nil {
		return "", fmt.Errorf("-binary: %w", err)
	}
	return own, nil
}
