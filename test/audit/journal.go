package audit

import (
	"fmt"
	"io"
	"time"
)

// Journal writes what a run does and finds, line by line, and remembers
// violations. It belongs to one goroutine.
type Journal struct {
	Out        io.Writer
	Prefix     string // of each line, behind the time
	violations []string
}

// Say writes a line.
func (j *Journal) Say(format string, args ...any) {
	fmt.Fprintf(j.Out, "%s  %s%s\n", time.Now().Format("15:04:05.000"), j.Prefix, fmt.Sprintf(format, args...))
}

// Violation records that a promise was broken; the run goes on to show all.
func (j *Journal) Violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	j.violations = append(j.violations, text)
	j.Say("VIOLATION: %s", text)
}

// Verdict is nil where every promise was kept; else the error ends with tails,
// the last lines of the nodes.
func (j *Journal) Verdict(name string, tails func() string) error {
	if len(j.violations) == 0 {
		j.Say("%s: every promise kept", name)
		return nil
	}
	return fmt.Errorf("%s: %d violations, the first: %s\n%s", name, len(j.violations), j.violations[0], tails())
}
