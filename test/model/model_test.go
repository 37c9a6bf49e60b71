package model

import (
	"flag"
	"os"
	"strings"
	"testing"

	"holdfast/test/race"
)

var (
	write = flag.Bool("write", false, "write docs/model.md")
	long  = flag.Bool("long", false, "explore also what takes minutes")
)

// TestAllRules explores every scope with all rules.
func TestAllRules(t *testing.T) {
	race.Sequential(t)
	total := 0
	for _, s := range scopes(*long) {
		finding, err := explore(s, allRules)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s; faults: %s: %d worlds, %d logs", s, s.faults, finding.States, finding.Logs)
		total += finding.States
		if finding.Broken != "" {
			t.Errorf("%s; faults: %s\n%s\n%s", s, s.faults, strings.Join(finding.Story, "\n"), finding.Broken)
		}
	}
	t.Logf("%d worlds in all", total)
}

// TestRuleTakenOut: without any one of the rules a promise breaks, the one that
// the rule is there for.
func TestRuleTakenOut(t *testing.T) {
	race.Sequential(t)
	for _, text := range ruleTexts {
		t.Run(text.name, func(t *testing.T) {
			finding, err := counterexample(text)
			if err != nil {
				t.Fatal(err)
			}
			if finding.Broken != text.breaks {
				t.Fatalf("breaks %q, want %q\n%s\n%s", finding.Broken, text.breaks, finding.Scope, strings.Join(finding.Story, "\n"))
			}
			t.Logf("%d steps, %d worlds", len(finding.Story), finding.States)
		})
	}
}

// TestDocument writes docs/model.md, or checks that it has every rule.
func TestDocument(t *testing.T) {
	const path = "../../docs/model.md"
	if !*write {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range ruleTexts {
			if !strings.Contains(string(text), rule.name) {
				t.Errorf("docs/model.md lacks the rule %q: run with -write", rule.name)
			}
		}
		return
	}
	var full []Finding
	for _, s := range scopes(*long) {
		finding, err := explore(s, allRules)
		if err != nil {
			t.Fatal(err)
		}
		full = append(full, finding)
	}
	by := make(map[Rule]Finding)
	for _, rule := range ruleTexts {
		finding, err := counterexample(rule)
		if err != nil {
			t.Fatal(err)
		}
		by[rule.rule] = finding
	}
	if err := os.WriteFile(path, []byte(document(scopes(*long), full, by)), 0o644); err != nil {
		t.Fatal(err)
	}
}
