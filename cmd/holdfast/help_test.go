package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func helpTree() *cobra.Command {
	a := &app{env: func(string) string { return "" }}
	return a.root()
}

func TestEveryCommandHasHelpAndExample(t *testing.T) {
	for _, cmd := range withPages(helpTree()) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || strings.Contains(cmd.Short, "\n") {
			t.Errorf("%s: its short help is %q, want a line without a full stop", cmd.CommandPath(), cmd.Short)
		}
		if !cmd.HasSubCommands() && (cmd.Example == "" || cmd.Long == "") {
			t.Errorf("%s lacks help or an example", cmd.CommandPath())
		}
		for _, line := range strings.Split(cmd.Long+"\n"+cmd.Example, "\n") {
			if !strings.HasPrefix(line, "  ") && len([]rune(line)) > 88 {
				t.Errorf("%s: a line of its help is too long for a terminal: %s", cmd.CommandPath(), line)
			}
		}
		cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			if flag.Hidden {
				return
			}
			// pflag takes what is in back quotes for the name of the value.
			if name, _ := pflag.UnquoteUsage(flag); flag.Usage == "" || strings.Contains(name, " ") {
				t.Errorf("%s --%s has the help %q of a %q", cmd.CommandPath(), flag.Name, flag.Usage, name)
			}
		})
	}
}

// What the exit status of a command says beside what every one's does is in its
// help.
func TestExitStatusesAreInTheHelp(t *testing.T) {
	tellsMore := []string{"cluster drill", "cluster verify", "destination test", "recipient check", "send", "server", "snapshot inspect"}
	for _, cmd := range withPages(helpTree()) {
		path := strings.TrimPrefix(cmd.CommandPath(), "holdfast ")
		says := strings.Contains(strings.ToLower(cmd.Long), "exit status")
		if slices.Contains(tellsMore, path) != says && cmd.HasParent() {
			t.Errorf("%s: its help tells of its exit status: %v", path, says)
		}
	}
	if !strings.Contains(helpTree().Long, "Exit status: "+strings.TrimSuffix(exitStatuses, " from a node.")) {
		t.Errorf("the help and the man pages differ in what exit statuses there are: %s", exitStatuses)
	}
}

// Every example is split into words by a real shell, and parsed by the real
// commands: what is copied out of the help is at least a valid command line.
func TestExamplesParse(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	bin, record := t.TempDir(), filepath.Join(t.TempDir(), "record")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!"+shell+"\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("holdfast", `printf '%s\x1f' "$@" >> "`+record+`"; echo >> "`+record+`"`)
	for _, other := range []string{"cat", "date", "diff", "envsubst", "man", "systemctl"} {
		write(other, "echo "+other)
	}
	write("holdfast.toml", "")
	lines := 0
	for _, cmd := range withPages(helpTree()) {
		if cmd.Example == "" {
			continue
		}
		if err := os.RemoveAll(record); err != nil {
			t.Fatal(err)
		}
		run := exec.CommandContext(t.Context(), shell, "--norc", "-c", "set -e\n"+cmd.Example)
		run.Env, run.Dir = []string{"PATH=" + bin}, bin
		if out, err := run.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s\n%s", cmd.CommandPath(), err, out, cmd.Example)
			continue
		}
		recorded, err := os.ReadFile(record)
		if err != nil {
			t.Errorf("%s: its examples don't call it: %v", cmd.CommandPath(), err)
			continue
		}
		own := false
		for line := range strings.Lines(string(recorded)) {
			args := strings.Split(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\x1f"), "\x1f")
			called := parseExample(t, args)
			own = own || called == cmd.CommandPath() || strings.HasPrefix(called, cmd.CommandPath()+" ")
			lines++
		}
		if !own {
			t.Errorf("%s: none of its examples is of it", cmd.CommandPath())
		}
	}
	if lines < 100 {
		t.Errorf("only %d lines were parsed", lines)
	}
}

func parseExample(t *testing.T, args []string) (called string) {
	t.Helper()
	cmd, rest, err := helpTree().Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("holdfast %s: %v", strings.Join(args, " "), err)
		return ""
	}
	if !cmd.Runnable() || cmd.HasSubCommands() && cmd.Example == "" {
		t.Errorf("holdfast %s does nothing", strings.Join(args, " "))
	}
	return cmd.CommandPath()
}
