package operate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// What each command needs. ID stands for a waiting message.
var (
	// readers answer from any node's own state.
	readers = [][]string{
		{"status"},
		{"domain", "list"}, {"domain", "show", "sink.test"},
		{"destination", "list"}, {"destination", "show", "sink"},
		{"policy", "list"}, {"policy", "show", "five-day"},
		{"settings", "show"},
		{"queue", "list"}, {"queue", "list", "--at", "1s"}, {"queue", "count"}, {"queue", "count", "--by", "domain"},
		{"queue", "show", "ID"}, {"queue", "cat", "ID"},
		{"log", "search"}, {"log", "show", "ID"}, {"log", "tail", "--from", "1", "--limit", "1"},
	}
	// writers need a quorum. Each works where it is run once, in this order.
	writers = [][]string{
		{"domain", "set", "other.test", "--destination", "sink"}, {"domain", "remove", "other.test"},
		{"destination", "set", "spare", "--host", "127.0.0.1:1"}, {"destination", "suspend", "spare"},
		{"destination", "resume", "spare"}, {"destination", "retry", "sink"}, {"destination", "remove", "spare"},
		{"policy", "set", "own", "--phase", "until=1h,every=15m", "--retention", "1h"}, {"policy", "remove", "own"},
		{"settings", "set", "--warn-oldest", "5h"},
		{"queue", "retry", "ID"}, {"queue", "hold", "ID"}, {"queue", "release", "--all", "--yes"}, {"queue", "delete", "ID"},
		{"queue", "undelete", "--all", "--yes"}, {"queue", "redirect", "ID", "--rcpt-new", "b@sink.test"},
		{"queue", "thaw", "--all", "--yes"}, {"queue", "bounce", "--all", "--yes"},
		{"cluster", "verify"}, {"cluster", "promote", "b"}, {"cluster", "transfer"}, {"node", "drain", "a"}, {"node", "resume", "a"},
	}
	// apart are commands of other kinds, or with tests of their own for what they
	// do where a node or a quorum is missing.
	apart = map[string]string{
		"dev": "a cluster of its own", "server": "a node", "send": "SMTP", "version": "asks nobody",
		"cluster join": "of a node that is in no cluster", "cluster remove": "TestMembersComeAndGo",
		"destination test": "a dialogue with a mail server", "snapshot": "files", "cluster recover": "offline", "cluster drill": "it kills nodes",
		"tls": "files", "token": "access", "account": "access", "recipient": "verification", "apply": "a file", "export": "a file",
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

// Each command of the binary is among those that this test runs, or apart.
func wantAllCommands(t *testing.T, all []string) {
	t.Helper()
	known := maps.Clone(apart)
	for _, args := range slices.Concat(readers, writers) {
		known[strings.Join(args[:min(2, len(args))], " ")] = "run"
	}
	for _, command := range all {
		if group, _, _ := strings.Cut(command, " "); known[command] == "" && apart[group] == "" {
			t.Errorf("holdfast %s is in none of the lists: does it read, or need a quorum?", command)
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
	id := w.queueOne(a)

	must(c.Kill())
	w.awaitWarning(a, "node-down", "c")
	for _, n := range []*harness.Node{a, b} {
		for _, args := range readers {
			w.reads(n, false, with(args, id))
		}
	}
	for i, args := range writers {
		w.writes([]*harness.Node{a, b}[i%2], with(args, id))
	}

	for _, args := range [][]string{writers[0], writers[2], writers[7]} { // for their removal
		w.writes(a, args)
	}
	id = w.queueOne(a)
	before := w.cli(a, "queue", "show", id, "--json")
	must(b.Kill())
	must(harness.Eventually(w.ctx, "a stale node", func(context.Context) error {
		if !w.status(a).Stale {
			return errors.New("it has its lease")
		}
		return nil
	}))
	w.withoutQuorum(a, id)
	if after := w.cli(a, "queue", "show", id, "--json"); stateOf(after) != stateOf(before) {
		t.Errorf("a change without a quorum took effect\n%s\nbefore\n%s", after, before)
	}
}

var stateWord = regexp.MustCompile(`"state":"[a-z]+"`)

func stateOf(message string) string { return strings.Join(stateWord.FindAllString(message, -1), " ") }

// with puts the message's id where the table has ID.
func with(args []string, id string) []string {
	args = slices.Clone(args)
	for i := range args {
		if args[i] == "ID" {
			args[i] = id
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
	if args[0] != "queue" || args[1] != "cat" { // a message is shown as it is
		forms = append(forms, append(slices.Clone(args), "--json"))
	}
	for _, args := range forms {
		out, stderr, status := w.command(n, args)
		marked := strings.Contains(strings.ToLower(out+stderr), "stale") && !strings.Contains(out, `"stale":false`)
		if slices.Contains(args, "cat") {
			marked = stale // what was accepted doesn't change
		}
		empty := out == "" && !slices.Contains(args, "--at")
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

func (w *world) withoutQuorum(n *harness.Node, id string) {
	w.t.Helper()
	for _, args := range readers {
		w.reads(n, true, with(args, id))
	}
	var all sync.WaitGroup // each waits some seconds for a quorum
	for _, args := range writers {
		all.Go(func() {
			_, stderr, status := w.command(n, with(args, id))
			if status != 4 || !strings.Contains(stderr, "no quorum") || strings.Count(stderr, "\n") != 1 {
				w.t.Errorf("%s at node %s without a quorum: status %d, %q, want 4 and one line", strings.Join(args, " "), n.Name, status, stderr)
			}
		})
	}
	all.Wait()
}
