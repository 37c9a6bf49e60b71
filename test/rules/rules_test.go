package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Each change fits the code, and each test exists: what a run would find out
// after minutes.
func TestRulesFitTheCode(t *testing.T) {
	t.Chdir("../..")
	for _, s := range allSections() {
		for _, r := range s.rules {
			if (r.test == "") != (len(r.without) == 0) || (r.test == "") != (r.says == "") {
				t.Errorf("%s: a test, what it says and the change that makes it fail belong together", r.text)
			}
			if r.test == "" && r.note == "" {
				t.Errorf("%s: neither a test nor a note on why there is none", r.text)
			}
			if len(r.without) > 0 {
				if _, err := r.overlay(t.TempDir()); err != nil {
					t.Errorf("%s: %v", r.text, err)
				}
			}
			if folder, name := r.testIn(); name != "" && !hasTest(t, folder, name) {
				t.Errorf("%s: no test %s in %s", r.text, name, folder)
			}
		}
	}
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ = strings.Cut(name, "/")
	function := regexp.MustCompile(`(?m)^func ` + name + `\(t \*testing\.T\)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if function.Match(text) {
			return true
		}
	}
	return false
}

func TestDocumentIsUpToDate(t *testing.T) {
	t.Chdir("../..")
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != render(allSections()) {
		t.Errorf("%s isn't what the rules say: write it with `go run ./test/rules -write`", document)
	}
}

// A run must tell a rule that is needed from one that isn't.
func TestTakenOut(t *testing.T) {
	t.Chdir("../..")
	r := rule{test: "delivery/dsn.TestMailbox", says: "--- FAIL: TestMailbox"}
	const file = "delivery/dsn/text.go"
	for name, c := range map[string]struct{ old, new, want string }{
		"needed":      {"func mailbox(address string) string {", "func mailbox(address string) string {\n\treturn \"\"\n", ""},
		"not needed":  {"func mailbox(address string) string {", "func mailbox(address string) string {\n", "passes without the rule"},
		"not Go":      {"func mailbox(address string) string {", "func mailbox(address string) string }", "doesn't compile"},
		"not in file": {"func nowhere() {", "", "has 0 times"},
	} {
		t.Run(name, func(t *testing.T) {
			r.without = []change{{file, c.old, c.new}}
			_, err := r.takenOut(t.Context(), time.Minute)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	r.says = "something else"
	r.without = []change{{file, "func mailbox(address string) string {", "func mailbox(address string) string {\n\treturn \"\"\n"}}
	if _, err := r.takenOut(t.Context(), time.Minute); err == nil || !strings.Contains(err.Error(), "doesn't say") {
		t.Errorf("a failure in other words: %v", err)
	}
}
