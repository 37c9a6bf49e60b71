package operate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// shell is one bash for all commands, so that they can set variables.
type shell struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startShell(ctx context.Context, t *testing.T, bin, addresses string) *shell {
	t.Helper()
	// It ends with its input, after the test's context.
	command := exec.CommandContext(context.WithoutCancel(ctx), "bash", "--norc", "--noprofile")
	command.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOLDFAST_ADDR="+addresses, "LC_ALL=C", "TZ=UTC")
	command.Dir = "../.." // the repository, where deploy/ is
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), command.Wait()); err != nil {
			t.Error(err)
		}
	})
	return &shell{in: in, out: bufio.NewReader(out)}
}

// commandEnd is a line that no command prints.
const commandEnd = "@@ the command has ended"

// run gives what a command printed on stdout and stderr.
func (s *shell) run(command string) (string, error) {
	if _, err := fmt.Fprintf(s.in, "{ %s\n} 2>&1 </dev/null\necho '%s'\n", command, commandEnd); err != nil {
		return "", err
	}
	var printed strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("the shell ended after %q: %w", printed.String(), err)
		}
		if line == commandEnd+"\n" {
			return printed.String(), nil
		}
		printed.WriteString(line)
	}
}
