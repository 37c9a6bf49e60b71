package smtpd

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestSwaks has an independent client talk to the server, over TLS too.
func TestSwaks(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks isn't installed")
	}
	h, _ := startWithAnn(t)
	host, port, _ := strings.Cut(h.address, ":")
	run := func(arguments ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), swaks, append([]string{
			"--server", host, "--port", port, "--from", "a@example.com", "--to", "b@example.org",
		}, arguments...)...).CombinedOutput()
		return string(out), err
	}
	for _, arguments := range [][]string{
		{},
		{"--protocol", "SMTP"},
		{"--pipeline"},
		{"--body", ".\n..\n.x"},
	} {
		if out, err := run(arguments...); err != nil {
			t.Errorf("swaks %v: %v\n%s", arguments, err, out)
		}
	}
	out, err := run("--tls")
	if err != nil {
		// Debian's swaks needs a Perl module for TLS that may be missing.
		if strings.Contains(out, "TLS not available") {
			t.Log("swaks has no TLS here")
		} else {
			t.Errorf("swaks --tls: %v\n%s", err, out)
		}
	}
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		out, err := run("--tls", "--auth", mechanism, "--auth-user", "ann@example.org", "--auth-password", annsPassword)
		if strings.Contains(out, "TLS not available") {
			t.Log("swaks has no TLS here, so no AUTH either")
			continue
		}
		if err != nil || !strings.Contains(out, "235 2.7.0") {
			t.Errorf("swaks --auth %s: %v\n%s", mechanism, err, out)
		}
	}
	if out, err := run("--to", "b@elsewhere.example"); err == nil || !strings.Contains(out, "550 5.7.1") {
		t.Errorf("relayed: %v\n%s", err, out)
	}
	if n := len(h.accepted()); n < 4 {
		t.Errorf("%d messages accepted", n)
	}
}

// TestSMTPSource runs Postfix's load generator: many sessions at once, and all
// that it counts as sent is there.
func TestSMTPSource(t *testing.T) {
	source, err := exec.LookPath("smtp-source")
	if err != nil {
		t.Skip("smtp-source isn't installed")
	}
	h := start(t, nil)
	for _, size := range []int{1 << 10, 64 << 10, 600 << 10} {
		before := len(h.accepted())
		out, err := exec.CommandContext(t.Context(), source, "-s", "10", "-m", "60", "-l", strconv.Itoa(size),
			"-f", "a@example.com", "-t", "b@example.org", "-r", "2", "inet:"+h.address).CombinedOutput()
		if err != nil {
			t.Fatalf("smtp-source: %v\n%s", err, out)
		}
		if n := len(h.accepted()) - before; n != 60 {
			t.Errorf("%d messages of %d bytes accepted, want 60", n, size)
		}
	}
}
