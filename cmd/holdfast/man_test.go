package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command of the help has a page, the page has all that the help has, and
// groff finds nothing wrong with it.
func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	r := (shell{}).run(t, "man", dir)
	if r.status != exitDone || !strings.Contains(r.out, "pages written to ") {
		t.Fatalf("%+v", r)
	}
	a := &app{env: func(string) string { return "" }}
	root := a.root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	commands := withPages(root)
	pages, err := os.ReadDir(dir)
	if err != nil || len(pages) != len(commands) || len(commands) < 50 {
		t.Errorf("%d pages of %d commands: %v", len(pages), len(commands), err)
	}
	for _, cmd := range commands {
		path := filepath.Join(dir, manName(cmd)+".1")
		page, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		text := rendered(t, path)
		if text == "" {
			text = string(page)
			t.Logf("groff is not installed: %s is read as it is", path)
		}
		words := []string{cmd.Short, "EXIT STATUS", "0 done"}
		cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			if !flag.Hidden {
				words = append(words, "--"+flag.Name)
			}
		})
		words = append(words, strings.Split(unindented(cmd.Example), "\n")...)
		for _, line := range strings.Split(cmd.Long, "\n") {
			if strings.HasPrefix(line, "  ") {
				words = append(words, line)
			}
		}
		for _, want := range words {
			if !strings.Contains(spaced(text), spaced(want)) {
				t.Errorf("%s lacks %q:\n%s", path, want, text)
			}
		}
	}
}

// rendered is the page as a terminal shows it, "" without groff.
func rendered(t *testing.T, path string) string {
	t.Helper()
	groff, err := exec.LookPath("groff")
	if err != nil {
		return ""
	}
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-Tascii", "-P-cbou", "-rLL=200n", "-ww", path)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Errorf("groff: %v: %s", err, errs.String())
	}
	return out.String()
}

var spaces = regexp.MustCompile(`\s+`)

func spaced(text string) string {
	return spaces.ReplaceAllString(strings.ReplaceAll(text, "…", "..."), " ")
}

func TestManPageInAFileThatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, (shell{}).run(t, "man", path), exitFailed, "not a directory")
	wantError(t, (shell{}).run(t, "man"), exitUsage, "one folder")
}

// Texts that would be requests of roff are texts.
func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		".TH x": `\&.TH x`, "it's --all": `it\(aqs \-\-all`, `a\b`: `a\eb`, "'x": `\(aqx`,
	} {
		if got := roff(text); got != want {
			t.Errorf("%s is set as %s, want %s", text, got, want)
		}
	}
	page := manPage(&cobra.Command{Use: "x", Short: "y", Long: "One.\n\n  .two   2\n  three  3\nFour."})
	if !strings.Contains(page, "One.\n.PP\n.RS 2\n.nf\n\\&.two   2\nthree  3\n.fi\n.RE\nFour.\n") {
		t.Error(page)
	}
}
