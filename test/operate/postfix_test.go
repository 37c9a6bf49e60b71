package operate_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/harness"
	"holdfast/test/postfix"
)

// mailboxSettings make Postfix a mail server with mailboxes of its own. %s are
// the mailboxes' folder, the owner's number, twice, and the policy service.
const mailboxSettings = `virtual_mailbox_domains = box.test origin.test
virtual_mailbox_base = %s
virtual_mailbox_maps = static:mailbox/
virtual_uid_maps = static:%d
virtual_gid_maps = static:%d
virtual_minimum_uid = 1
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_policy_service inet:%s, permit`

// greylist is a policy service (Postfix's SMTPD_POLICY_README): it defers each
// recipient that begins with "grey" until it is open, and refuses "no".
type greylist struct {
	listener net.Listener
	group    sync.WaitGroup
	mu       sync.Mutex // guards open and conns
	open     bool
	conns    []net.Conn
}

func startGreylist(t *testing.T) *greylist {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &greylist{listener: listener}
	g.group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			g.mu.Lock()
			g.conns = append(g.conns, conn)
			g.mu.Unlock()
			g.group.Go(func() { g.serve(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		g.mu.Lock()
		for _, conn := range g.conns {
			conn.Close()
		}
		g.mu.Unlock()
		g.group.Wait()
	})
	return g
}

func (g *greylist) serve(conn net.Conn) {
	defer conn.Close()
	recipient := ""
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		if name == "recipient" {
			recipient = value
		}
		if lines.Text() == "" {
			fmt.Fprintf(conn, "action=%s\n\n", g.action(recipient))
		}
	}
}

func (g *greylist) action(recipient string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case strings.HasPrefix(recipient, "grey") && !g.open:
		return "defer_if_permit 4.2.0 greylisted, come back later"
	case strings.HasPrefix(recipient, "no"):
		return "550 5.1.1 no such user here"
	}
	return "dunno"
}

func (g *greylist) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
}

// A real Postfix behind the relay: it takes, greylists and refuses mail, and
// the report on what it refused ends in a mailbox of its own, from where
// another program's MIME parser reads it.
func TestPostfixBehindTheRelay(t *testing.T) {
	isLong(t)
	w := start(t)
	node, grey, mail := w.Nodes[0], startGreylist(t), w.mailboxes()
	const nobody = 65534
	w.must(os.Chown(filepath.Dir(mail), nobody, nobody))
	dir := shortDir(t)
	w.must(os.Chmod(dir, 0o755)) // Postfix's daemons are another user
	server, err := postfix.Start(w.ctx, dir, fmt.Sprintf(mailboxSettings, filepath.Dir(mail), nobody, nobody, grey.listener.Addr()))
	if errors.Is(err, postfix.ErrMissing) {
		t.Skip(err)
	}
	w.must(err)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.cli(node, "policy", "set", "often", "--phase", "until=1h,every=1s", "--retention", "1h")
	w.cli(node, "destination", "set", "postfix", "--host", server.Address)
	for _, domain := range []string{"box.test", "origin.test"} {
		w.cli(node, "domain", "set", domain, "--destination", "postfix", "--policy", "often", "--verify", "off")
	}

	good, greyed, refused := w.sendTo(node, "good@box.test"), w.sendTo(node, "grey@box.test"), w.sendTo(node, "nobody@box.test")
	w.shows(t, node, trouble{name: "postfix", cause: "deferred", phase: "rcpt", code: 450}, greyed)
	w.shows(t, node, trouble{name: "postfix", cause: "rejected", phase: "rcpt", code: 550, state: "bounced"}, refused)
	grey.pass()
	for _, id := range []string{good, greyed} {
		w.awaitState(node, id, "delivered")
	}
	w.readReport(mail, refused)
}

// mailboxes is the folder of the one mailbox, a Maildir.
func (w *world) mailboxes() string {
	w.t.Helper()
	dir := shortDir(w.t)
	// Another user writes into it.
	w.must(os.Chmod(dir, 0o755))
	base := filepath.Join(dir, "mail")
	w.must(os.Mkdir(base, 0o755))
	return filepath.Join(base, "mailbox")
}

func (w *world) awaitState(node *harness.Node, id, state string) {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, "message "+id, func(ctx context.Context) error {
		var m queued
		if err := node.JSON(ctx, &m, "log", "show", id); err != nil {
			return err
		}
		if m.State != state {
			return fmt.Errorf("it is %s", m.State)
		}
		return nil
	}))
}

// parse reads a report with Python's email package.
const parse = `import email, email.policy, json, sys
m = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default)
parts = list(m.iter_parts())
fields = [dict(p.items()) for p in parts[1].get_payload()]
print(json.dumps({"type": m.get_content_type(), "report": m["Content-Type"].params.get("report-type", ""),
  "subject": m["Subject"], "return": m["Return-Path"], "to": m["To"], "parts": [p.get_content_type() for p in parts],
  "text": parts[0].get_content(), "fields": fields, "original": parts[2].as_string(),
  "defects": [str(d) for p in [m, *m.walk()] for d in p.defects]}))`

// readReport wants a report on a message in the mailbox.
func (w *world) readReport(mailbox, id string) {
	w.t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		w.t.Skip("python3 isn't installed")
	}
	var report struct {
		Type, Report, Subject, Return, To, Text, Original string
		Parts, Defects                                    []string
		Fields                                            []map[string]string
	}
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	w.must(harness.Eventually(ctx, "the report in the mailbox", func(ctx context.Context) error {
		files, err := filepath.Glob(filepath.Join(mailbox, "new", "*"))
		if err != nil {
			return harness.Final(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if !strings.Contains(string(content), "multipart/report") {
				continue
			}
			out, err := exec.CommandContext(ctx, python, "-c", parse, file).Output()
			if err != nil {
				return harness.Final(err)
			}
			return json.Unmarshal(out, &report)
		}
		return fmt.Errorf("none among %d messages", len(files))
	}))
	w.t.Logf("%+v", report)
	switch {
	case report.Type != "multipart/report", report.Report != "delivery-status", len(report.Defects) > 0, len(report.Fields) != 2:
		w.t.Fatalf("it is %s of %q with %v", report.Type, report.Report, report.Defects)
	case report.Return != "<>" && report.Return != "", report.To != "<sender@origin.test>" && report.To != "sender@origin.test":
		w.t.Errorf("from %q to %q", report.Return, report.To)
	case strings.Join(report.Parts, " ") != "text/plain message/delivery-status message/rfc822":
		w.t.Errorf("its parts are %v", report.Parts)
	}
	message, recipient := report.Fields[0], report.Fields[1]
	for name, want := range map[string]string{"Action": "failed", "Status": "5.1.1", "Final-Recipient": "rfc822;nobody@box.test"} {
		if got := strings.ReplaceAll(recipient[name], " ", ""); got != want {
			w.t.Errorf("%s is %q, want %q", name, recipient[name], want)
		}
	}
	if !strings.Contains(recipient["Diagnostic-Code"], "no such user here") || message["X-Holdfast-Message-ID"] != id {
		w.t.Errorf("fields %v and %v", message, recipient)
	}
	words := strings.Join(strings.Fields(report.Text), " ") // it is folded
	if !strings.Contains(words, "no such user here") || !strings.Contains(report.Original, "Subject: test message") {
		w.t.Errorf("text %q, original %q", report.Text, report.Original)
	}
}
