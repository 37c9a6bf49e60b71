package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"holdfast/test/audit"
)

// figure is a line of the table: a chapter and what it cost.
type figure struct {
	name      string
	took      time.Duration
	accepted  int
	rate      float64       // accepted a second
	gap       time.Duration // longest without a 250
	p99       time.Duration // from the final dot to its 250
	cpu       time.Duration // of all nodes, for each message
	mayRepeat int
	found     audit.Findings
	queued    int // messages that wait for the destination that is down
	verified  bool
}

// table prints the figures of all chapters. Where there was no traffic there are
// no figures of it.
func (w *world) table() error {
	t := tabwriter.NewWriter(w.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "chapter\ttook\taccepted\taccepted/s\tlongest gap\tp99\tcpu each\tlost\tduplicates\tin doubt\tqueued\tverify")
	for _, f := range w.figures {
		if f.accepted == 0 {
			fmt.Fprintf(t, "%s\t%s\n", f.name, f.took.Round(100*time.Millisecond))
			continue
		}
		verify := "DIFFERENT"
		if f.verified {
			verify = "equal"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%.0f\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", f.name, f.took.Round(100*time.Millisecond), f.accepted, f.rate,
			orNone(f.gap), orNone(f.p99), orNone(f.cpu), f.found.Lost, f.found.Duplicates, f.found.InDoubt, f.queued, verify)
	}
	return t.Flush()
}

// orNone leaves out what wasn't measured.
func orNone(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.Round(100 * time.Microsecond).String()
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
