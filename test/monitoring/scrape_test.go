package monitoring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// Three nodes with mail going through them and one destination that is down:
// their metrics are clean, every name in rules and dashboard is among them, and
// the real Prometheus scrapes them, evaluates the rules and answers the
// dashboard's queries.
func TestScrape(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three nodes and Prometheus")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := startCluster(ctx, t)

	there := map[string]bool{}
	for _, n := range c.Nodes {
		text := get(ctx, t, "http://"+n.HTTP+"/metrics")
		for line := range strings.Lines(text) {
			name, _, _ := strings.Cut(line, " ")
			name, _, _ = strings.Cut(name, "{")
			there[name] = true
		}
	}
	if none := missing(usedMetrics(t), there); len(none) > 0 {
		t.Errorf("no node has these metrics: %s", strings.Join(none, ", "))
	}
	lint(ctx, t, get(ctx, t, "http://"+c.Nodes[0].HTTP+"/metrics"))

	p := startPrometheus(ctx, t, c)
	p.eventually(ctx, t, "three scrapes that succeed", `sum(up{job="holdfast"})`, "3")
	p.eventually(ctx, t, "mail accepted", `sum(holdfast_smtpd_messages_accepted_total) >= bool 9`, "1")
	p.eventually(ctx, t, "mail delivered", `max(holdfast_recipients_ended_total{outcome="delivered"}) >= bool 9`, "1")
	p.eventually(ctx, t, "a destination down", `min(holdfast_destination_up{destination="gone"})`, "0")
	p.eventually(ctx, t, "its mail pending", `max(holdfast_destination_queue_recipients{destination="gone"}) >= bool 1`, "1")
	p.eventually(ctx, t, "an alert that waits for its time", `count(ALERTS{alertname="HoldfastDestinationDown",destination="gone"})`, "1")
	for title, exprs := range expressions(t, "holdfast") {
		for _, expr := range exprs {
			if _, err := p.query(ctx, expr); err != nil {
				t.Errorf("panel %s: %v", title, err)
			}
		}
	}
	p.wantHealthyRules(ctx, t)
}

// startCluster has mail delivered for sink.test and pending for gone.test.
func startCluster(ctx context.Context, t *testing.T) *harness.Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	c, err := harness.Start(ctx, harness.Config{InProcess: true, Nodes: 3, Dir: dir, TLS: true})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	server, err := sink.Start(sink.Config{IDHeader: load.HeaderID})
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	nobody, err := harness.FreeAddresses(1)
	must(t, err)
	must(t, route(ctx, c.Nodes[0], "sink", server.Addr()))
	must(t, route(ctx, c.Nodes[0], "gone", nobody[0]))
	send(ctx, t, c, "sink.test", 9)
	send(ctx, t, c, "gone.test", 3)
	must(t, server.WaitStats(ctx, func(s sink.Stats) bool { return s.Committed >= 9 }))
	return c
}

func route(ctx context.Context, n *harness.Node, name, host string) (err error) {
	conn, err := n.Dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	_, err = pb.NewDestinationServiceClient(conn).SetDestination(ctx, &pb.SetDestinationRequest{
		Name: name, Hosts: []*pb.DestinationHost{{Address: host, Priority: 10, Weight: 1}},
	})
	if err != nil {
		return err
	}
	_, err = pb.NewDomainServiceClient(conn).SetDomain(ctx, &pb.SetDomainRequest{Name: name + ".test", Destination: &name, Verify: new(pb.Verify_VERIFY_OFF)})
	return err
}

func send(ctx context.Context, t *testing.T, c *harness.Cluster, domain string, count int) {
	t.Helper()
	loader, err := load.New(load.Config{
		Addresses: c.SMTP(), Sessions: 3, Run: strings.ReplaceAll(domain, ".", ""), Count: count, Duration: time.Minute,
		Recipients: []string{"someone@" + domain}, Size: 1024,
	})
	must(t, err)
	report, err := loader.Run(ctx)
	must(t, err)
	if got := report.Count(load.Accepted); got < count {
		t.Fatalf("%d of %d messages accepted", got, count)
	}
}

// lint has promtool look at names, units and help texts.
func lint(ctx context.Context, t *testing.T, metrics string) {
	t.Helper()
	command := exec.CommandContext(ctx, tool(t, "promtool"), "check", "metrics")
	command.Stdin = strings.NewReader(metrics)
	out, err := command.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "holdfast_") {
			t.Errorf("promtool: %s", line)
		}
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Error(err)
	}
}

// prometheus is a server of its own.
type prometheus struct {
	address string
	output  bytes.Buffer // read it after the end
}

func startPrometheus(ctx context.Context, t *testing.T, c *harness.Cluster) *prometheus {
	t.Helper()
	binary := tool(t, "prometheus")
	ports, err := harness.FreeAddresses(1)
	must(t, err)
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(deploy, "alerts.yml"))
	must(t, err)
	var targets []string
	for _, n := range c.Nodes {
		targets = append(targets, n.HTTP)
	}
	list, err := json.Marshal(targets)
	must(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs:\n  - job_name: holdfast\n    static_configs: [{targets: %s}]\n", rules, list)
	path := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(path, []byte(config), 0o600))

	p := &prometheus{address: ports[0]}
	command := exec.CommandContext(ctx, binary, "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.address)
	command.Stdout, command.Stderr = &p.output, &p.output
	must(t, command.Start())
	t.Cleanup(func() {
		must(t, command.Process.Kill())
		var killed *exec.ExitError
		if err := command.Wait(); err != nil && !errors.As(err, &killed) {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(p.output.String())
		}
	})
	return p
}

// answer is what a test reads of Prometheus's API.
type answer struct {
	Error string `json:"error"`
	Data  struct {
		Result []struct {
			Value [2]any `json:"value"`
		} `json:"result"`
		Groups []struct {
			Rules []struct {
				Name      string `json:"name"`
				Health    string `json:"health"`
				LastError string `json:"lastError"`
			} `json:"rules"`
		} `json:"groups"`
	} `json:"data"`
}

func (p *prometheus) ask(ctx context.Context, path string) (a answer, err error) {
	text, err := fetch(ctx, "http://"+p.address+path)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return a, fmt.Errorf("%w in %q", err, text)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (p *prometheus) query(ctx context.Context, expr string) (string, error) {
	a, err := p.ask(ctx, "/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil || len(a.Data.Result) == 0 {
		return "", err
	}
	return fmt.Sprint(a.Data.Result[0].Value[1]), nil
}

func (p *prometheus) eventually(ctx context.Context, t *testing.T, what, expr, want string) {
	t.Helper()
	must(t, harness.Eventually(ctx, what, func(ctx context.Context) error {
		got, err := p.query(ctx, expr)
		if err == nil && got != want {
			err = fmt.Errorf("%s is %q, want %q", expr, got, want)
		}
		return err
	}))
}

// wantHealthyRules: each rule was evaluated without an error.
func (p *prometheus) wantHealthyRules(ctx context.Context, t *testing.T) {
	t.Helper()
	must(t, harness.Eventually(ctx, "all rules evaluated", func(ctx context.Context) error {
		a, err := p.ask(ctx, "/api/v1/rules")
		if err != nil {
			return err
		}
		rules := 0
		for _, group := range a.Data.Groups {
			for _, rule := range group.Rules {
				rules++
				if rule.Health != "ok" {
					return fmt.Errorf("rule %s is %s: %s", rule.Name, rule.Health, rule.LastError)
				}
			}
		}
		if rules == 0 {
			return errors.New("no rules")
		}
		return nil
	}))
}

func get(ctx context.Context, t *testing.T, address string) string {
	t.Helper()
	text, err := fetch(ctx, address)
	must(t, err)
	return text
}

func fetch(ctx context.Context, address string) (text string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
