package operate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/harness"
)

// What each command needs. ID stands for a waiting message, FILE for a
// configuration, LIST for one of recipients, SINK for a mail server that takes mail, NEW
// for a file that there isn't yet.
var (
	// readers answer from any node's own state.
	readers = [][]string{
		{"status"},
		{"domain", "list"}, {"domain", "show", "sink.test"},
		{"destination", "list"}, {"destination", "show", "sink"},
		{"policy", "list"}, {"policy", "show", "five-day"},
		{"settings", "show"}, {"export"},
		{"queue", "list"}, {"queue", "list", "--at", "1s"}, {"queue", "count"}, {"queue", "count", "--by", "domain"},
		{"queue", "show", "ID"}, {"queue", "cat", "ID"}, {"queue", "operations"},
		{"log", "search"}, {"log", "show", "ID"}, {"log", "tail", "--from", "1", "--limit", "1"},
		{"token", "list"}, {"account", "list"}, {"apply", "-f", "FILE", "--dry-run"},
		{"recipient", "list", "sink.test"},
	}
	// alone are those that need a node and no more, and show nothing that could be
	// stale: what they show is of now, or says of which index it is.
	alone = [][]string{
		{"destination", "test", "sink", "--host", "SINK", "--to", "a@sink.test"}, {"snapshot", "save", "NEW"},
		{"version"}, {"man", "NEW"},
	}
	// checks says what RCPT would be answered: without a quorum, to come back later.
	checks = []string{"recipient", "check", "a@sink.test"}
	// writers need a quorum. Each works where it is run once, in this order.
	writers = [][]string{
		{"domain", "set", "other.test", "--destination", "sink", "--verify", "off"}, {"domain", "remove", "other.test"},
		{"destination", "set", "spare", "--host", "127.0.0.1:1"}, {"destination", "suspend", "spare"},
		{"destination", "resume", "spare"}, {"destination", "retry", "sink"}, {"destination", "remove", "spare"},
		{"policy", "set", "own", "--phase", "until=1h,every=15m", "--retention", "1h"}, {"policy", "remove", "own"},
		{"settings", "set", "--warn-oldest", "5h"}, {"apply", "-f", "FILE", "--yes"},
		{"recipient", "add", "b@sink.test"}, {"recipient", "import", "sink.test", "LIST"},
		{"recipient", "remove", "--all", "sink.test", "--yes"},
		{"token", "create", "--name", "guest", "--role", "viewer"}, {"token", "revoke", "guest"},
		{"account", "add", "app", "--generate"}, {"account", "passwd", "app", "--generate"}, {"account", "remove", "app"},
		{"queue", "retry", "ID"}, {"queue", "hold", "ID"}, {"queue", "release", "--all", "--yes"}, {"queue", "delete", "ID"},
		{"queue", "undelete", "--all", "--yes"}, {"queue", "redirect", "ID", "--rcpt-new", "b@sink.test"},
		{"queue", "thaw", "--all", "--yes"}, {"queue", "bounce", "--all", "--yes"},
		{"cluster", "verify"}, {"cluster", "promote", "b"}, {"cluster", "transfer"}, {"node", "drain", "a"}, {"node", "resume", "a"},
	}
	// removed are what writers take away, for the second time that they are run.
	removed = [][]string{
		{"domain", "set", "other.test", "--destination", "sink", "--verify", "off"}, {"destination", "set", "spare", "--host", "127.0.0.1:1"},
		{"policy", "set", "own", "--phase", "until=1h,every=15m", "--retention", "1h"},
		{"token", "create", "--name", "guest", "--role", "viewer"}, {"account", "add", "app", "--generate"},
		{"recipient", "add", "b@sink.test"},
	}
	// apart are the commands that this test doesn't run, with the reason.
	apart = map[string]string{
		"dev":                   "it is a cluster of its own, and asks no node",
		"server":                "it is the node: every test here runs it",
		"send":                  "it talks SMTP and not to a node's administration; TestCommandsAtEveryNode sends with it",
		"queue operations stop": "it takes an operation that is under way: TestBulkOutlivesItsLeader stops one at a node that doesn't lead",
		"cluster join":          "it is for a node that is in no cluster, which TestMembersComeAndGo has",
		"cluster remove":        "with a node dead it removes that node, which ends what is tested here: TestMembersComeAndGo",
		"cluster drill":         "it is refused unless all nodes are in service, and kills one: the drill tests have both",
		"cluster recover":       "it works on the data folder of a node that doesn't run: TestRecoverLostQuorum",
		"snapshot restore":      "it makes a node's data folder before its first start: TestBackupUnderLoad",
		"snapshot inspect":      "it reads a file, and asks no node",
		"tls init":              "it writes files, and asks no node",
		"tls issue":             "it writes files, and asks no node",
	}
)

var (
	commandLine = regexp.MustCompile(`(?m)^  ([a-z]+) +\S`)
	commandList = regexp.MustCompile(`(?s)Available Commands:\n(.*?)\n\n`)
)

// commands are those of the binary that have none below them, by its own help.
func commands(ctx context.Context, t *testing.T, binary string, path ...string) []string {
	t.Helper()
	help, err := exec.CommandContext(ctx, binary, append(path[:len(path):len(path)], "--help")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	list := commandList.FindSubmatch(help)
	if list == nil {
		return []string{strings.Join(path, " ")}
	}
	var found []string
	for _, match := range commandLine.FindAllSubmatch(list[1], -1) {
		if name := string(match[1]); name != "completion" && name != "help" {
			found = append(found, commands(ctx, t, binary, append(path[:len(path):len(path)], name)...)...)
		}
	}
	return found
}

// Each command of the binary is among those that this test runs, or apart, and not
// both.
func wantAllCommands(t *testing.T, all []string) {
	t.Helper()
	for _, command := range all {
		run := slices.ContainsFunc(slices.Concat(readers, alone, writers, [][]string{checks}), func(args []string) bool {
			return strings.HasPrefix(strings.Join(args, " ")+" ", command+" ")
		})
		why := apart[command]
		for path := command; why == "" && strings.Contains(path, " "); {
			path = path[:strings.LastIndexByte(path, ' ')]
			why = apart[path]
		}
		if run == (why != "") {
			t.Errorf("holdfast %s is run: %v; it is apart: %q. Does it read, or need a quorum?", command, run, why)
		}
	}
}

// Every command works at each of three nodes while one of them is dead. With two
// dead what reads still answers, says that it is stale and exits with 0; what
// needs a quorum says so, exits with 4, and has changed nothing.
func TestCommandsAtEveryNode(t *testing.T) {
	isLong(t)
	w := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	w.ctx = ctx
	wantAllCommands(t, commands(w.ctx, t, binaryOf(w.Nodes[0])))
	a, b, c := w.Nodes[0], w.Nodes[1], w.Nodes[2]
	must := func(err error) { t.Helper(); w.must(err) }
	w.cli(a, "destination", "set", "sink", "--host", "127.0.0.1:1") // so that mail waits
	w.cli(a, "recipient", "add", "b@sink.test")                     // so that there is a list
	id, file := w.queueOne(a), w.fileOfADomain(1)
	with := func(args []string, id string) []string { return w.with(args, id, file) }

	for _, args := range readers {
		w.reads(c, false, with(args, id))
	}
	must(c.Kill())
	w.awaitWarning(a, "node-down", "c")
	w.awaitService() // c may have led
	for _, n := range []*harness.Node{a, b} {
		for _, args := range readers {
			w.reads(n, false, with(args, id))
		}
		for _, args := range append(alone[:len(alone):len(alone)], checks) {
			w.writes(n, with(args, id))
		}
	}
	for i, args := range writers {
		w.writes([]*harness.Node{a, b}[i%2], with(args, id))
	}

	for _, args := range removed {
		w.writes(a, args)
	}
	file = w.fileOfADomain(2)
	id = w.queueOne(a)
	before := w.cli(a, "queue", "show", id, "--json")
	must(b.Kill())
	must(harness.Eventually(w.ctx, "a stale node", func(context.Context) error {
		if !w.status(a).Stale {
			return errors.New("it has its lease")
		}
		return nil
	}))
	w.withoutQuorum(a, func(args []string) []string { return with(args, id) })
	if after := w.cli(a, "queue", "show", id, "--json"); stateOf(after) != stateOf(before) {
		t.Errorf("a change without a quorum took effect\n%s\nbefore\n%s", after, before)
	}

	// The other two in turn. All come back first: what a node without a quorum
	// knows after a start is no more than what it had on disk as state.
	for _, alone := range []*harness.Node{b, c} {
		for _, n := range w.Nodes {
			if !n.Running() {
				must(n.Start())
			}
		}
		must(w.WaitReady(w.ctx))
		for _, n := range w.Nodes {
			if n != alone {
				must(n.Kill())
			}
		}
		must(harness.Eventually(w.ctx, "a stale node", func(ctx context.Context) error {
			var s harness.Status
			if err := alone.JSON(ctx, &s, "status"); err != nil || !s.Stale {
				return fmt.Errorf("stale %v, %w", s.Stale, err)
			}
			return nil
		}))
		w.withoutQuorum(alone, func(args []string) []string { return with(args, id) })
	}
}

var stateWord = regexp.MustCompile(`"state":"[a-z]+"`)

func stateOf(message string) string { return strings.Join(stateWord.FindAllString(message, -1), " ") }

// fileOfADomain sets a domain's limit, and leaves all else as it is.
func (w *world) fileOfADomain(limit int) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "holdfast.toml")
	w.must(os.WriteFile(path, fmt.Appendf(nil, "[domain.\"file.test\"]\ndestination = \"sink\"\nmax_messages = %d\n", limit), 0o600))
	return path
}

// with puts what there is where the tables have a word for it.
func (w *world) with(args []string, id, file string) []string {
	args = slices.Clone(args)
	for i := range args {
		switch args[i] {
		case "ID":
			args[i] = id
		case "FILE":
			args[i] = file
		case "LIST":
			args[i] = filepath.Join(w.t.TempDir(), "recipients")
			w.must(os.WriteFile(args[i], []byte("c\nd@sink.test\n"), 0o600))
		case "SINK":
			args[i] = w.sink.Addr()
		case "NEW":
			args[i] = filepath.Join(w.t.TempDir(), "new")
		}
	}
	return args
}

// queueOne has a message accepted, and waits until it waits for its destination.
func (w *world) queueOne(n *harness.Node) string {
	w.t.Helper()
	sent := w.cli(n, "send", "--server", n.SMTP, "--from", "s@sink.test", "--to", "a@sink.test")
	id := regexp.MustCompile(`250 2\.0\.0 (01[0-9A-Z]{24}) queued`).FindStringSubmatch(sent)[1]
	w.must(harness.Eventually(w.ctx, "a message that waits", func(ctx context.Context) error {
		out, err := n.CLI(ctx, "queue", "show", id)
		if err != nil {
			return err
		}
		if !strings.Contains(string(out), "is down since") {
			return fmt.Errorf("%s", out)
		}
		return nil
	}))
	return id
}

func (w *world) command(n *harness.Node, args []string) (out, stderr string, status int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, binaryOf(n), append(slices.Clone(args), "--addr", n.Socket())...)
	var stdout, errs strings.Builder
	command.Stdout, command.Stderr = &stdout, &errs
	err := command.Run()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		w.t.Errorf("%s at %s: %v", strings.Join(args, " "), n.Name, err)
		return "", "", -1
	}
	return stdout.String(), errs.String(), command.ProcessState.ExitCode()
}

func binaryOf(n *harness.Node) string { return filepath.Join(filepath.Dir(n.Dir), "holdfast") }

// reads wants a command to print something at a node, and to say whether that may
// be stale.
func (w *world) reads(n *harness.Node, stale bool, args []string) {
	w.t.Helper()
	forms := [][]string{args}
	if len(args) < 2 || args[1] != "cat" { // a message is shown as it is
		forms = append(forms, append(slices.Clone(args), "--json"))
	}
	for _, args := range forms {
		out, stderr, status := w.command(n, args)
		marked := strings.Contains(strings.ToLower(out+stderr), "stale") && !strings.Contains(out, `"stale":false`)
		if slices.Contains(args, "cat") {
			marked = stale // what was accepted doesn't change
		}
		// Of these there may be none.
		empty := out == "" && !slices.Contains(args, "--at") && !slices.Contains(args, "token") && !slices.Contains(args, "account") && !slices.Contains(args, "operations")
		if status != 0 || empty || marked != stale {
			w.t.Errorf("%s at node %s: status %d, marked stale %v, want %v: %q, %s",
				strings.Join(args, " "), n.Name, status, marked, stale, out, stderr)
		}
	}
}

// writes wants a command to succeed at a node.
func (w *world) writes(n *harness.Node, args []string) {
	w.t.Helper()
	out, stderr, status := w.command(n, args)
	if status != 0 {
		w.t.Errorf("%s at node %s: status %d, %q, %s", strings.Join(args, " "), n.Name, status, out, stderr)
	}
}

func (w *world) withoutQuorum(n *harness.Node, with func([]string) []string) {
	w.t.Helper()
	for _, args := range readers {
		w.reads(n, true, with(args))
	}
	for _, args := range alone {
		w.writes(n, with(args))
	}
	w.refused(n, 1, "451 4.3.2 no quorum", with(checks)...)
	var all sync.WaitGroup // each waits some seconds for a quorum
	for _, args := range writers {
		all.Go(func() {
			_, stderr, status := w.command(n, with(args))
			if status != 4 || !strings.Contains(stderr, "no quorum") || strings.Count(stderr, "\n") != 1 {
				w.t.Errorf("%s at node %s without a quorum: status %d, %q, want 4 and one line", strings.Join(args, " "), n.Name, status, stderr)
			}
		})
	}
	all.Wait()
}
