package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tested is a package with tests.
type tested struct{ path, folder string }

// build builds all that a round runs. The go command doesn't link again what is
// there and up to date.
func build(ctx context.Context, o options) (*round, error) {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, err
	}
	packages, err := list(ctx, o.packages)
	if err != nil {
		return nil, err
	}
	if len(packages) == 0 {
		return nil, fmt.Errorf("no tests in %s", strings.Join(o.packages, " "))
	}
	plain, err := list(ctx, o.plain)
	if err != nil {
		return nil, err
	}
	plain = slices.DeleteFunc(plain, func(p tested) bool { return !slices.Contains(packages, p) })
	raced, err := compile(ctx, packages, filepath.Join(dir, "race"), "-race")
	if err != nil {
		return nil, err
	}
	unraced, err := compile(ctx, plain, filepath.Join(dir, "plain"))
	if err != nil {
		return nil, err
	}
	all := &round{together: append(raced, unraced...)}
	if o.chaos != "" {
		all.after, err = chaos(ctx, o, dir)
	}
	return all, err
}

// list are the packages that patterns match and that have tests.
func list(ctx context.Context, patterns []string) (all []tested, err error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	output, err := goCommand(ctx, "list", []string{"-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}"}, patterns)
	for line := range strings.Lines(output) {
		path, folder, _ := strings.Cut(strings.TrimSpace(line), " ")
		all = append(all, tested{path, folder})
	}
	return all, err
}

// compile builds the packages' tests into dir. Like go test, it leaves out what only
// debuggers need.
func compile(ctx context.Context, packages []tested, dir string, flags ...string) ([]job, error) {
	if len(packages) == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var paths []string
	var jobs []job
	for _, p := range packages {
		paths = append(paths, p.path)
		jobs = append(jobs, job{
			name: strings.Join(append([]string{p.path}, flags...), " "), folder: p.folder,
			binary: filepath.Join(dir, path.Base(p.path)+".test"), args: []string{"-test.paniconexit0", "-test.timeout=20m"},
		})
	}
	flags = append(flags, "-c", "-ldflags=-s -w", "-o", dir+"/")
	_, err := goCommand(ctx, "test", flags, paths)
	return jobs, err
}

// chaos are the chaos runs that a round ends with.
func chaos(ctx context.Context, o options, dir string) ([]job, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "chaos")
	_, err = goCommand(ctx, "build", []string{"-o", binary}, []string{"holdfast/test/chaos"})
	return []job{{name: "chaos -short -run " + o.chaos, folder: here, binary: binary, args: []string{"-short", "-run", o.chaos, "-dir", dir, "-binary", o.binary}}}, err
}

// goCommand runs a go command. The tests' own packages are listed after its flags.
func goCommand(ctx context.Context, name string, flags, packages []string) (string, error) {
	command := exec.CommandContext(ctx, "go", slices.Concat([]string{name}, flags, packages)...)
	if slices.Contains(flags, "-race") {
		command.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	output, err := command.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("go %s: %w\n%s%s", name, err, output, exit.Stderr)
	}
	return string(output), err
}
