package operate_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// world is a cluster of processes that an operator works on, under load, with
// a destination that remembers all that it got.
type world struct {
	*harness.Cluster
	t       *testing.T
	ctx     context.Context
	sink    *sink.Server
	journal audit.Journal

	ending  context.CancelFunc // of the load
	loaded  chan *load.Report
	answers []load.Answer
}

var long = flag.Bool("long", false, "also the runs that take a minute or more")

// isLong leaves a run to `make operate`.
func isLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("takes long: make operate runs it")
	}
}

func start(t *testing.T) *world {
	t.Helper()
	return startWith(t, harness.Config{})
}

func startWith(t *testing.T, config harness.Config) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, journal: audit.Journal{Out: t.Output()}}
	config.Dir = shortDir(t)
	if config.LogLevel == "" {
		config.LogLevel = "warn"
	}
	if config.Nodes == 0 {
		config.Nodes, config.Direct = 3, true
	}
	var err error
	if config.Binary == "" {
		config.Binary, err = harness.Build(ctx, config.Dir)
		w.must(err)
	}
	w.sink, err = sink.Start(sink.Config{IDHeader: load.HeaderID})
	w.must(err)
	t.Cleanup(func() {
		if err := w.sink.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Cluster, err = harness.Start(ctx, config)
	w.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.Tails(25))
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	w.cli(w.Nodes[0], "destination", "set", "sink", "--host", w.sink.Addr(), "--tls", "none")
	w.cli(w.Nodes[0], "domain", "set", "sink.test", "--destination", "sink", "--verify", "off")
	return w
}

// shortDir is not t.TempDir: a socket's path must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) cli(n *harness.Node, args ...string) string {
	w.t.Helper()
	out, err := n.CLI(w.ctx, args...)
	w.must(err)
	w.t.Logf("%s$ holdfast %s\n%s", n.Name, strings.Join(args, " "), out)
	return string(out)
}

// refused wants a command to end with a status and words.
func (w *world) refused(n *harness.Node, status int, words string, args ...string) {
	w.t.Helper()
	out, err := n.CLI(w.ctx, args...)
	exit, ok := errors.AsType[*harness.ExitError](err)
	if !ok || exit.Status != status || !strings.Contains(exit.Stderr, words) {
		w.t.Errorf("holdfast %s: %s%v, want exit status %d and %q", strings.Join(args, " "), out, err, status, words)
		return
	}
	w.t.Logf("%s$ holdfast %s\n%s", n.Name, strings.Join(args, " "), exit.Stderr)
}

// load sends until endLoad, through whichever of the addresses takes mail.
func (w *world) load(run string, sessions int, addresses ...string) {
	w.t.Helper()
	loader, err := load.New(load.Config{
		Addresses: addresses, Roam: true, Sessions: sessions, Run: run, Duration: 3 * time.Minute,
		Recipients: []string{"user@sink.test"}, Size: 1024, LongEvery: 50, LongSize: 600 << 10,
		PerConnection: 20,
	})
	w.must(err)
	w.run(loader)
}

func (w *world) run(loader *load.Loader) {
	ctx, cancel := context.WithCancel(w.ctx)
	w.ending, w.loaded = cancel, make(chan *load.Report, 1)
	go func() {
		report, err := loader.Run(ctx)
		if err != nil {
			w.t.Error(err)
		}
		w.loaded <- report
	}()
	w.t.Cleanup(cancel)
}

func (w *world) endLoad() *load.Report {
	w.t.Helper()
	w.ending()
	report := <-w.loaded
	w.answers = append(w.answers, report.Answers...)
	gap, _ := report.LongestGap("", report.Began, report.Began.Add(report.Window))
	w.journal.Say("%d accepted, %d deferred, %d refused, %d lost, %d unknown; longest gap %s, stranded %d times",
		report.Count(load.Accepted), report.Count(load.Deferred), report.Count(load.Refused),
		report.Count(load.Lost), report.Count(load.Unknown), gap.Round(time.Millisecond), report.Stranded)
	if report.Count(load.Accepted) == 0 {
		w.t.Error("no message was accepted")
	}
	return report
}

// audit wants all that was accepted to have arrived, and the nodes that run to
// agree; inDoubt is how many messages may have come twice, audit.NoLimit any.
func (w *world) audit(inDoubt int) {
	w.t.Helper()
	w.awaitEmpty(w.Nodes[0])
	found, err := audit.Cluster(w.ctx, &w.journal, w.Cluster, audit.Books{
		Answers: w.answers, MaxDuplicates: inDoubt, HeldAllowed: inDoubt != 0,
	}, w.sink.Messages)
	w.must(err)
	if inDoubt != audit.NoLimit && found.InDoubt > inDoubt {
		w.t.Errorf("%d messages were in doubt, at most %d may be", found.InDoubt, inDoubt)
	}
	w.journal.Say("%+v", found)
	w.must(w.journal.Verdict(w.t.Name(), func() string { return w.Tails(5) }))
}

func (w *world) awaitEmpty(n *harness.Node) {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, "an empty queue", func(ctx context.Context) error {
		var count harness.Count
		if err := n.JSON(ctx, &count, "queue", "count"); err != nil {
			return err
		}
		if count.Pending > 0 { // what was in doubt twice is held, and stays so
			return fmt.Errorf("%+v", count)
		}
		return nil
	}))
}

// awaitEnd waits until a process has ended by itself.
func (w *world) awaitEnd(n *harness.Node) {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, "the end of node "+n.Name, func(context.Context) error {
		if n.Running() {
			return errors.New("it runs")
		}
		return nil
	}))
}

func (w *world) status(n *harness.Node) (s struct {
	harness.Status
	Warnings []struct{ Code, Subject, Text string } `json:"warnings"`
}) {
	w.t.Helper()
	w.must(n.JSON(w.ctx, &s, "status"))
	return s
}

// awaitWarning waits until a node's status warns of something.
func (w *world) awaitWarning(n *harness.Node, code, text string) {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, "warning "+code, func(context.Context) error {
		warnings := w.status(n).Warnings
		for _, warning := range warnings {
			if warning.Code == code && strings.Contains(warning.Text, text) {
				return nil
			}
		}
		return fmt.Errorf("warnings %v", warnings)
	}))
}
