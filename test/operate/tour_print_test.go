package operate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/test/harness"
)

// printedAt is what the page has below a command.
func printedAt(lines []string) string {
	end := slices.IndexFunc(lines, func(line string) bool { return line == "```\n" || strings.HasPrefix(line, "$ ") })
	return strings.Join(lines[:max(end, 0)], "")
}

// reads are the commands that change nothing.
var reads = regexp.MustCompile(`^(holdfast (status|log|queue (list|count|show|operations))|curl) `)

// print gives what a command printed as the page shows it. One that only reads may
// come upon a moment that the page doesn't have, with a node that is slow to answer,
// a new leader or a probe under way, so it is run until it prints what the page has.
// Where one never does the page differs, and those after it are run once.
func (w *tour) print(command, want string) (string, error) {
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	known, shown := *w.names, ""
	err := harness.Eventually(ctx, command, func(context.Context) error {
		*w.names = known
		printed, err := w.shell.run(w.names.real(command))
		if err != nil {
			return harness.Final(err)
		}
		shown = w.names.shown(printed)
		if difference := firstDifference(want, shown); difference != "" && !w.differs && reads.MatchString(command+" ") {
			return &notYet{difference}
		}
		return nil
	})
	if _, ok := errors.AsType[*notYet](err); ok {
		w.differs = true
		return shown, nil
	}
	return shown, err
}

// notYet is a listing that isn't the page's.
type notYet struct{ difference string }

func (e *notYet) Error() string { return e.difference }

// sameButForBlanks: how wide a column is depends on what isn't shown.
func sameButForBlanks(a, b string) bool { return firstDifference(a, b) == "" }

var (
	// overdue is the next attempt at a destination that is down: soon, or overdue where
	// the node that probes it has died or lost its quorum.
	overdue = regexp.MustCompile(`((?:pending [0-9]+|\(5s ago\)) 2026-02-03 03:12:00Z) \((?:in 5s|5s ago)\)`)
	// probed is what a retry says of a destination that is back: its own probe may have
	// come first.
	probed = regexp.MustCompile(`^destination office is (?:down, its next probe is due 2026-02-03 03:12:00Z \(5s ago\)|up, there is nothing to probe)$`)
)

func compared(line string) string {
	line = overdue.ReplaceAllString(strings.Join(strings.Fields(line), " "), "$1 (in 5s)")
	return probed.ReplaceAllString(line, "destination office is probed")
}

func firstDifference(want, got string) string {
	a, b := bufio.NewScanner(strings.NewReader(want)), bufio.NewScanner(strings.NewReader(got))
	for n := 1; ; n++ {
		more, other := a.Scan(), b.Scan()
		if !more && !other {
			return ""
		}
		if x, y := compared(a.Text()), compared(b.Text()); more != other || x != y {
			return fmt.Sprintf("line %d\npage: %s\nrun:  %s", n, x, y)
		}
	}
}
