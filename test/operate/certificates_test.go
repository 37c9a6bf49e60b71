package operate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"holdfast/test/harness"
	"holdfast/test/sink"
)

// The cluster's CA is replaced under load, by the steps of docs/operate.md. No
// client finds all nodes closed, nothing is in doubt, and at the end nothing
// goes by the old one any more, not even a connection from before.
func TestRotateCA(t *testing.T) {
	isLong(t)
	w := startWith(t, harness.Config{TLS: true})
	old := w.Authority
	next, err := harness.NewAuthority("next CA")
	w.must(err)
	w.load("rotate", 6, w.SMTP()...)
	for _, step := range []struct {
		what string
		do   func(*harness.Node) error
	}{
		{"trust both CAs", func(n *harness.Node) error { return n.Trust(old, next) }},
		{"certificates of the new CA", func(n *harness.Node) error { return n.Certify(next) }},
		{"trust the new CA alone", func(n *harness.Node) error { return n.Trust(next) }},
	} {
		for _, n := range w.Nodes {
			w.must(step.do(n))
			w.must(n.Reload(w.ctx))
			w.must(n.WaitReady(w.ctx))
			w.awaitArrivals(50)
		}
		t.Log(step.what, "on all nodes")
	}
	closed := 0
	for _, n := range w.Nodes {
		closed += strings.Count(logOf(t, n), "closed a connection: its certificate isn't trusted any more")
	}
	if closed == 0 {
		t.Error("no connection of the old CA was closed")
	}
	t.Logf("%d connections of the old CA were closed", closed)
	w.auditServed(w.endLoad())
}

// A node doesn't take certificates that the others would refuse, goes on with
// those that it has, and takes good ones later.
func TestBrokenCertificatesAreNotTaken(t *testing.T) {
	w := startWith(t, harness.Config{TLS: true})
	foreign, err := harness.NewAuthority("foreign CA")
	w.must(err)
	c := w.Nodes[2]
	w.must(c.Certify(foreign))
	if err := c.Reload(w.ctx); err == nil {
		t.Fatal("a certificate of a foreign CA was taken")
	}
	w.awaitSaid(c, "certificates not reloaded: the old ones stay in use") // it is counted first
	if log := logOf(t, c); !strings.Contains(log, "no CA in tls.ca has signed it") {
		t.Errorf("the log doesn't say so:\n%s", log)
	}
	leader, err := w.Leader(w.ctx)
	w.must(err)
	if leader != c {
		w.insist(w.Nodes[0], "cluster", "transfer", c.Name) // over connections made anew
	}
	w.load("broken", 3, w.SMTP()...)
	w.cli(w.Nodes[0], "domain", "set", "more.test", "--destination", "sink", "--verify", "off")
	w.must(c.Certify(w.Authority))
	w.must(c.Reload(w.ctx))
	w.must(c.WaitReady(w.ctx))
	w.endLoad()
	w.audit(0)

	// At a start there is nothing old to go on with.
	w.must(c.Kill())
	w.must(c.Certify(foreign))
	w.must(c.Start())
	w.awaitEnd(c)
	if log := logOf(t, c); !strings.Contains(log, "holdfast: tls.cert: ") {
		t.Errorf("the log doesn't say why the node didn't start:\n%s", log)
	}
	w.must(c.Certify(w.Authority))
	w.must(c.Start())
	w.must(c.WaitReady(w.ctx))
	w.checkSecrets()
}

// checkSecrets wants no private key in what the nodes said.
func (w *world) checkSecrets() {
	w.t.Helper()
	for _, n := range w.Nodes {
		key, err := os.ReadFile(filepath.Join(n.Dir, "tls", "node-key.pem"))
		w.must(err)
		secret := strings.Split(string(key), "\n")[1]
		if log := logOf(w.t, n); strings.Contains(log, secret) || strings.Contains(log, "PRIVATE KEY") {
			w.t.Errorf("node %s has a private key in its log", n.Name)
		}
		arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n.PID()))
		w.must(err)
		if strings.Contains(string(arguments), secret) {
			w.t.Errorf("node %s shows a private key in the process list", n.Name)
		}
	}
}

// awaitArrivals waits until so many more messages have come to the destination.
func (w *world) awaitArrivals(count int) {
	w.t.Helper()
	first := -1
	w.must(w.sink.WaitStats(w.ctx, func(s sink.Stats) bool {
		if first < 0 {
			first = s.Committed
		}
		return s.Committed >= first+count
	}))
}

func logOf(t *testing.T, n *harness.Node) string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(n.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// Who restarts a node and has it reload at once, as programs do that renew certificates,
// doesn't end it: it is still opening its state.
func TestReloadWhileANodeStarts(t *testing.T) {
	w := startWith(t, harness.Config{TLS: true})
	c := w.Nodes[2]
	w.must(c.Stop(w.ctx))
	w.must(c.Start())
	w.must(harness.Eventually(w.ctx, "the node opens its folder", func(context.Context) error {
		return opens(c.PID(), c.Data())
	}))
	w.must(syscall.Kill(c.PID(), syscall.SIGHUP))
	w.must(c.WaitReady(w.ctx))
	w.must(harness.Eventually(w.ctx, "its certificates are read again", func(ctx context.Context) error {
		done, err := c.Metric(ctx, `holdfast_certificate_reloads_total{result="done"}`)
		if err == nil && done == 0 {
			err = errors.New("they weren't yet")
		}
		return err
	}))
}

// opens fails until a process has a file of a folder open.
func opens(pid int, dir string) error {
	descriptors := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	links, err := os.ReadDir(descriptors)
	if err != nil {
		return err
	}
	for _, link := range links {
		if target, err := os.Readlink(filepath.Join(descriptors, link.Name())); err == nil && strings.HasPrefix(target, dir+"/") {
			return nil
		}
	}
	return errors.New("none is open")
}
