package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// takenOut runs the rule's test on the code without it. It returns the line in
// which the test says what went wrong, or an error where it didn't.
func (r rule) takenOut(ctx context.Context, limit time.Duration) (string, error) {
	dir, err := os.MkdirTemp("", "rules")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	overlay, err := r.overlay(dir)
	if err != nil {
		return "", err
	}
	folder, name := r.testIn()
	// Subtests are matched level by level.
	pattern := "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	// Neither vet nor debug information is needed, and a run builds a hundred times.
	test := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-ldflags=-w", "-overlay", overlay,
		"-timeout", limit.String(), "-run", pattern, "./"+folder)
	test.WaitDelay = time.Second
	output, err := test.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", errors.New("the test passes without the rule")
	case !errors.As(err, &exit):
		return "", err
	case strings.Contains(string(output), "[build failed]"):
		return "", fmt.Errorf("the changed code doesn't compile:\n%s", output)
	}
	line := lineWith(string(output), r.says)
	if r.says == "" || line == "" {
		return "", fmt.Errorf("the test fails, but doesn't say %q:\n%s", r.says, shortened(string(output)))
	}
	return line, nil
}

// overlay writes the changed files and the list of them that go build takes.
func (r rule) overlay(dir string) (string, error) {
	texts := map[string]string{}
	for _, c := range r.without {
		text, err := c.changed()
		if err != nil {
			return "", err
		}
		if _, twice := texts[c.file]; twice {
			return "", fmt.Errorf("two changes to %s: make them one", c.file)
		}
		texts[c.file] = text
	}
	replace := map[string]string{}
	for file, text := range texts {
		original, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[original] = changed
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}

func lineWith(output, words string) string {
	for line := range strings.Lines(output) {
		if strings.Contains(line, words) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// noise is what a test's output has beside its own words.
var noise = regexp.MustCompile(`(?m)^(=== |goroutine |\s+/|\t|\w+\.\S+\(.*|ok|FAIL|exit status|created by).*\n`)

func shortened(output string) string {
	output = noise.ReplaceAllString(output, "")
	return output[:min(len(output), 2000)]
}
