package operate_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/test/harness"
	"holdfast/test/sink"
)

// queued is what `queue show --json` and `log show --json` print of a message
// to one recipient.
type queued struct {
	ID         string
	State      string
	Recipients []struct {
		Address, State string
		Attempts       int
		InDoubt        bool
		NextAttempt    *time.Time
		Causes         []string
		LastError      *struct {
			Cause, Phase, Text string
			Code               int
		}
	}
}

// trouble is a mail server that can't take mail in one of R2's ways, or doesn't
// take a message, and what an operator is shown.
type trouble struct {
	name         string
	server       *sink.Config // nil: host is where it would be
	host         string
	flags        string // of destination set
	cause, phase string
	code         int
	down         bool   // the destination is; else the message waits for its own next attempt
	state        string // "" is pending
	inDoubt      bool
	suspect      bool // one node's failure is waited for, no second opinion: it takes 30 s
}

func refusing(verb string, code int) *sink.Config {
	return &sink.Config{Answer: sink.On(verb, sink.Reply{Code: code, Enhanced: fmt.Sprintf("%d.3.0", code/100), Text: "because of " + verb})}
}

func closing(verb string) *sink.Config {
	return &sink.Config{Offer: sink.OfferWithout("CHUNKING", "PIPELINING"), Answer: sink.On(verb, sink.Reply{Hangup: true})}
}

var troubles = []trouble{
	{name: "dns", host: "nowhere.invalid:25", cause: "dns", phase: "dns", down: true},
	{name: "refused", host: "127.0.0.1:1", cause: "refused", phase: "connect", down: true},
	// The kernel has no way to a multicast address over TCP.
	{name: "unreachable", host: "224.0.0.1:25", cause: "unreachable", phase: "connect", down: true},
	{name: "tls", server: &sink.Config{}, flags: "--tls require", cause: "tls", phase: "tls", down: true},
	{name: "certificate", server: &sink.Config{STARTTLS: true}, flags: "--tls verify", cause: "tls", phase: "tls", down: true},
	{name: "auth", server: &sink.Config{Offer: append(sink.DefaultOffer(), "AUTH PLAIN"), Answer: sink.On("AUTH", sink.Reply{Code: 535, Enhanced: "5.7.8", Text: "who"})},
		flags: "--auth-user u --auth-password-file PASSWORD", cause: "auth", phase: "auth", code: 535, down: true},
	{name: "greeting554", server: refusing(sink.Connect, 554), cause: "rejected", phase: "greeting", code: 554, down: true},
	{name: "closedgreeting", server: closing(sink.Connect), cause: "closed", phase: "greeting", down: true},
	{name: "midsession", server: refusing("RCPT", 421), cause: "deferred", phase: "rcpt", code: 421, down: true},
	{name: "greylisted", server: refusing("RCPT", 450), cause: "deferred", phase: "rcpt", code: 450},
	{name: "content451", server: refusing(sink.Dot, 451), cause: "deferred", phase: "dot", code: 451},
	{name: "mail452", server: refusing("MAIL", 452), cause: "deferred", phase: "mail", code: 452},
	{name: "closeddata", server: closing("DATA"), cause: "closed", phase: "data"},
	{name: "closeddot", server: closing(sink.Dot), cause: "closed", phase: "dot", inDoubt: true},
	{name: "rejected", server: refusing("RCPT", 550), cause: "rejected", phase: "rcpt", code: 550, state: "bounced"},
	{name: "rejectedheld", server: refusing("RCPT", 550), flags: "--on-5xx hold", cause: "rejected", phase: "rcpt", code: 550},
}

// R2, B4: every way in which a destination can't take mail, or a message, over
// real sockets with real processes, as an operator sees it in `queue show`.
func TestEveryCauseIsShown(t *testing.T) {
	isLong(t)
	w := start(t)
	node := w.Nodes[0]
	all := append(troubles, w.blocked(), w.postfixSink("-r", "RCPT", "sinkrcpt", "deferred", "rcpt", 450),
		w.postfixSink("-q", "DATA", "sinkquit", "closed", "data", 0),
		w.postfixSink("-f", "RCPT", "sinkreject", "rejected", "rcpt", 500))
	ids := map[string]string{}
	for _, tr := range all {
		if tr.name == "" {
			continue // its program isn't there
		}
		w.route(node, tr)
		ids[tr.name] = w.sendTo(node, "user@"+tr.name+".test")
	}
	for _, tr := range all {
		if tr.name == "" {
			continue
		}
		t.Run(tr.name, func(t *testing.T) { w.shows(t, node, tr, ids[tr.name]) })
	}
}

func (w *world) route(node *harness.Node, tr trouble) {
	w.t.Helper()
	host := tr.host
	if tr.server != nil {
		server, err := sink.Start(*tr.server)
		w.must(err)
		w.t.Cleanup(func() {
			if err := server.Close(); err != nil {
				w.t.Error(err)
			}
		})
		host = server.Addr()
	}
	args := []string{"destination", "set", tr.name, "--host", host}
	for _, flag := range strings.Fields(tr.flags) {
		if flag == "PASSWORD" {
			flag = w.passwordFile()
		}
		args = append(args, flag)
	}
	w.cli(node, args...)
	w.cli(node, "domain", "set", tr.name+".test", "--destination", tr.name, "--verify", "off")
}

func (w *world) passwordFile() string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "password")
	w.must(os.WriteFile(path, []byte("secret\n"), 0o600))
	return path
}

// sendTo has one message accepted, and gives its id.
func (w *world) sendTo(node *harness.Node, address string) string {
	w.t.Helper()
	return w.sendFrom(node, "sender@origin.test", address)
}

func (w *world) sendFrom(node *harness.Node, from, to string) string {
	w.t.Helper()
	out := w.cli(node, "send", "--server", node.SMTP, "--from", from, "--to", to)
	_, rest, found := strings.Cut(out, "<-- 250 2.0.0 ")
	for found && !strings.Contains(strings.SplitN(rest, "\n", 2)[0], "queued") {
		_, rest, found = strings.Cut(rest, "<-- 250 2.0.0 ")
	}
	id, _, _ := strings.Cut(rest, " ")
	if !found || id == "" {
		w.t.Fatalf("no id in %s", out)
	}
	return id
}

// shows wants the operator to be told what is the matter.
func (w *world) shows(t *testing.T, node *harness.Node, tr trouble, id string) {
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	state, command := "pending", "queue"
	if tr.state != "" {
		state, command = tr.state, "log"
	}
	var m queued
	err := harness.Eventually(ctx, "message "+id, func(ctx context.Context) error {
		m = queued{}
		if err := node.JSON(ctx, &m, command, "show", id); err != nil {
			return err
		}
		r := m.Recipients[0]
		switch chain := strings.Join(r.Causes, "\n"); {
		case r.LastError == nil || r.State != state:
			return fmt.Errorf("it is %s after %v", r.State, r.LastError)
		case tr.suspect && !strings.Contains(chain, "destination "+tr.name):
			return fmt.Errorf("it waits for %q", chain)
		case tr.down && !strings.Contains(chain, "destination "+tr.name+" is down since "):
			return fmt.Errorf("it waits for %q", chain)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r := m.Recipients[0]
	if e := r.LastError; e.Cause != tr.cause || e.Phase != tr.phase || e.Code != tr.code || e.Text == "" {
		t.Errorf("it shows %+v, want %s at %s with %d", *e, tr.cause, tr.phase, tr.code)
	}
	chain := strings.Join(r.Causes, "\n")
	t.Logf("%s\n%s", id, chain)
	if words := tr.cause + " at " + tr.phase; state == "pending" && !strings.Contains(chain, words) {
		t.Errorf("the chain of causes has no %q:\n%s", words, chain)
	}
	if counted := r.Attempts > 0; counted == (tr.down || tr.suspect) {
		t.Errorf("%d attempts are counted", r.Attempts)
	}
	if r.InDoubt != tr.inDoubt {
		t.Errorf("in doubt: %t", r.InDoubt)
	}
}

// blocked is a port that answers nobody, as behind a firewall: the kernel drops
// what would connect while nobody accepts.
func (w *world) blocked() trouble {
	w.t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	w.must(err)
	w.t.Cleanup(func() { w.must(syscall.Close(fd)) })
	w.must(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	w.must(syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	w.must(err)
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 8 { // until it is full
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return trouble{name: "timeout", host: address, cause: "timeout", phase: "connect", suspect: true}
		}
		w.t.Cleanup(func() { w.must(conn.Close()) })
	}
	w.t.Fatal("it isn't full")
	return trouble{}
}

// postfixSink is Postfix's smtp-sink with one of its faults.
func (w *world) postfixSink(flag, command, name, cause, phase string, code int) trouble {
	w.t.Helper()
	program, err := exec.LookPath("smtp-sink")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/smtp-sink"); err != nil {
			w.t.Log("smtp-sink isn't installed: its faults are left out")
			return trouble{}
		}
	}
	free, err := harness.FreeAddresses(1)
	w.must(err)
	args := []string{flag, command, free[0], "100"}
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "postfix"}, args...) // it refuses to be root
	}
	process := exec.Command(program, args...)
	w.must(process.Start())
	w.t.Cleanup(func() {
		if err := process.Process.Kill(); err != nil {
			w.t.Error(err)
		}
		_ = process.Wait() // killed
	})
	w.must(harness.Eventually(w.ctx, "smtp-sink", func(context.Context) error {
		conn, err := net.Dial("tcp", free[0])
		if err == nil {
			err = conn.Close()
		}
		return err
	}))
	tr := trouble{name: name, host: free[0], cause: cause, phase: phase, code: code}
	if cause == "rejected" {
		tr.state = "bounced"
	}
	return tr
}
