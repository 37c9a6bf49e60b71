package monitoring

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const deploy = "../../deploy"

// tool finds a program of Debian's package prometheus.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s isn't installed (Debian: apt-get install prometheus)", name)
	}
	return path
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), tool(t, "promtool"), args...)
	command.Dir = deploy
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRulesAreClean(t *testing.T) {
	promtool(t, "check", "rules", "alerts.yml")
	promtool(t, "test", "rules", "alerts_test.yml")
}

var (
	alertName  = regexp.MustCompile(`- alert: (\w+)`)
	firingName = regexp.MustCompile(`alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels`)
	metricName = regexp.MustCompile(`\bholdfast_\w+`)
)

// Every rule is shown to fire by a unit test.
func TestEachRuleHasATest(t *testing.T) {
	fired := map[string]bool{}
	for _, match := range firingName.FindAllStringSubmatch(read(t, "alerts_test.yml"), -1) {
		fired[match[1]] = true
	}
	rules := alertName.FindAllStringSubmatch(read(t, "alerts.yml"), -1)
	if len(rules) == 0 {
		t.Fatal("no rules found")
	}
	for _, rule := range rules {
		if !fired[rule[1]] {
			t.Errorf("no unit test makes %s fire", rule[1])
		}
	}
}

// dashboard is what a test reads of Grafana's format.
type dashboard struct {
	Panels []struct {
		Title   string `json:"title"`
		Type    string `json:"type"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

// expressions are the dashboard's queries, as they are asked for one job.
func expressions(t *testing.T, job string) map[string][]string {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "grafana-dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			all[panel.Title] = append(all[panel.Title], strings.ReplaceAll(target.Expr, "$job", job))
		}
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", panel.Title)
		}
	}
	if len(all) < 10 {
		t.Fatalf("%d panels found", len(all))
	}
	return all
}

// usedMetrics are the names that rules and dashboard ask for, by a place where.
func usedMetrics(t *testing.T) map[string]string {
	t.Helper()
	used := map[string]string{}
	for _, metric := range metricName.FindAllString(read(t, "alerts.yml"), -1) {
		used[metric] = "alerts.yml"
	}
	for title, exprs := range expressions(t, "holdfast") {
		for _, expr := range exprs {
			for _, metric := range metricName.FindAllString(expr, -1) {
				used[metric] = "panel " + title
			}
		}
	}
	return used
}

func missing(used map[string]string, there map[string]bool) []string {
	var none []string
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if !there[name] {
			none = append(none, name+" ("+used[name]+")")
		}
	}
	return none
}
