package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestStatus(t *testing.T) {
	parse := func(args []string) (fails bool, err error) {
		flags := flag.NewFlagSet("probe", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		flags.BoolVar(&fails, "fail", false, "fail")
		return fails, Parse(flags, args)
	}
	run := func(_ context.Context, fails bool, out io.Writer) error {
		fmt.Fprint(out, "ran")
		if fails {
			return errors.New("a promise was broken")
		}
		return nil
	}
	for _, tt := range []struct {
		args       []string
		status     int
		out, error string
	}{
		{nil, 0, "ran", ""},
		{[]string{"-fail"}, 1, "ran", "probe: a promise was broken\n"},
		{[]string{"-h"}, 0, "", ""},
		{[]string{"-nothing"}, 2, "", "probe: flag provided but not defined: -nothing\n"},
		{[]string{"-fail", "more"}, 2, "", "probe: unknown argument \"more\"\n"},
	} {
		var out, complaints strings.Builder
		status := do(t.Context(), &out, &complaints, "probe", tt.args, parse, run)
		if status != tt.status || out.String() != tt.out || complaints.String() != tt.error {
			t.Errorf("%q: status %d, output %q, errors %q; want %d, %q, %q",
				tt.args, status, out.String(), complaints.String(), tt.status, tt.out, tt.error)
		}
	}
}
