package operate_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/test/harness"
	"holdfast/test/sink"
)

var update = flag.Bool("update", false, "write what the commands of docs/tour.md print into it")

// The page is the script: its commands are run, one after the other in one shell
// against three real nodes, and must print what it shows, but for what differs
// from run to run (tour_normal_test.go).
func TestTour(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	const path = "../../docs/tour.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tour := startTour(t)
	got, err := tour.play(string(page))
	if err != nil {
		t.Fatalf("%v\n%s", err, tour.cluster.Tails(15))
	}
	if sameButForBlanks(got, string(page)) {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("docs/tour.md isn't what the commands print (go test ./test/operate -run Tour -update writes it):\n%s", firstDifference(string(page), got))
}

// tour is the world of the page.
type tour struct {
	t       *testing.T
	ctx     context.Context
	cluster *harness.Cluster
	shell   *shell
	names   *names
	// The two mail servers that it delivers to: where, and what listens there now.
	addresses map[string]string
	servers   map[string]*sink.Server
	// A command never printed what the page has.
	differs bool
}

func startTour(t *testing.T) *tour {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	w := &tour{t: t, ctx: ctx, addresses: map[string]string{}, servers: map[string]*sink.Server{}}
	dir := shortDir(t)
	binary, err := harness.Build(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if w.cluster, err = harness.Start(ctx, harness.Config{Binary: binary, Dir: dir, Nodes: 3, Direct: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, server := range w.servers {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := w.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	free, err := harness.FreeAddresses(2)
	if err != nil {
		t.Fatal(err)
	}
	w.addresses["office"], w.addresses["new"] = free[0], free[1]
	w.names = newNames(w.cluster.Nodes, w.addresses)
	var sockets []string
	for _, n := range w.cluster.Nodes {
		sockets = append(sockets, n.Socket())
	}
	w.shell = startShell(ctx, t, filepath.Dir(binary), strings.Join(sockets, ","))
	return w
}

// play runs the page and gives it with what the commands printed. In a block of
// ```console a line that begins with "$ " is a command, and the others are what
// it printed. <!-- do: WHAT --> and <!-- wait: COMMAND --> are for the test alone.
func (w *tour) play(page string) (string, error) {
	var out strings.Builder
	console := false
	lines := slices.Collect(strings.Lines(page))
	for i, line := range lines {
		text := strings.TrimSuffix(line, "\n")
		switch {
		case console && strings.HasPrefix(text, "$ "):
			printed, err := w.print(strings.TrimPrefix(text, "$ "), printedAt(lines[i+1:]))
			if err != nil {
				return "", fmt.Errorf("%s: %w", text, err)
			}
			out.WriteString(line + printed)
		case console && text != "```":
			// What an earlier run printed.
		default:
			console = text == "```console"
			if what, ok := hidden(text, "do"); ok {
				if err := w.do(what); err != nil {
					return "", fmt.Errorf("%s: %w", text, err)
				}
			}
			if command, ok := hidden(text, "wait"); ok {
				if err := w.wait(w.names.real(command)); err != nil {
					return "", err
				}
			}
			out.WriteString(line)
		}
	}
	return out.String(), nil
}

// hidden is what a comment of the page has for the test.
func hidden(line, kind string) (string, bool) {
	text, ok := strings.CutPrefix(line, "<!-- "+kind+": ")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(text, " -->")
}

// do is what befalls the cluster and the mail servers it delivers to.
func (w *tour) do(what string) error {
	subject, verb, _ := strings.Cut(what, " ")
	if address, ok := w.addresses[subject]; ok {
		return w.serve(subject, address, verb)
	}
	n, err := w.cluster.Node(subject)
	if err != nil {
		return err
	}
	switch verb {
	case "dies":
		return n.Kill()
	case "comes back":
		return errors.Join(n.Start(), n.WaitReady(w.ctx))
	}
	return fmt.Errorf("%q is nothing a node does", verb)
}

// answers are those of a mail server by recipient, beside taking the mail.
var answers = map[string]sink.Reply{
	"later": {Code: 450, Enhanced: "4.7.1", Text: "greylisted, come back in 15 minutes"},
	"gone":  {Code: 550, Enhanced: "5.1.1", Text: "no such user here"},
}

func (w *tour) serve(name, address, verb string) error {
	switch verb {
	case "goes down":
		err := w.servers[name].Close()
		delete(w.servers, name)
		return err
	case "takes mail":
		server, err := sink.Start(sink.Config{Address: address, Answer: func(s sink.Step) sink.Reply {
			if s.Verb != "RCPT" {
				return sink.Reply{}
			}
			user, _, _ := strings.Cut(s.Address, "@")
			return answers[user]
		}})
		w.servers[name] = server
		return err
	case "takes all mail":
		w.servers[name].SetAnswer(func(sink.Step) sink.Reply { return sink.Reply{} })
		return nil
	}
	return fmt.Errorf("%q is nothing a mail server does", verb)
}

// wait runs a command until it succeeds.
func (w *tour) wait(command string) error {
	ctx, cancel := context.WithTimeout(w.ctx, 45*time.Second)
	defer cancel()
	return harness.Eventually(ctx, command, func(context.Context) error {
		printed, err := w.shell.run(command + " >/dev/null && echo held")
		if err == nil && printed != "held\n" {
			err = errors.New(printed)
		}
		return err
	})
}
