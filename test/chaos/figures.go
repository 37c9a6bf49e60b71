package main

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"holdfast/test/audit"
)

// times are sorted measurements of one kind.
type times []time.Duration

// quantile is the smallest measurement that a share q of all is not above.
func (t times) quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	return t[max(0, min(len(t)-1, ceil(q*float64(len(t)))-1))]
}

func ceil(x float64) int {
	n := int(x)
	if float64(n) < x {
		n++
	}
	return n
}

// judge prints the figures of all deaths and holds them against the budgets.
func (w *world) judge(deaths []failover, found audit.Findings) {
	var first, all, takeover times
	claims := 0
	for i, f := range deaths {
		w.Say("death %d, of %s: next 250 after %s, from each survivor after %s; first delivery to its %d destinations after %s to %s",
			i+1, f.node.Name, ms(f.first), ms(f.all), len(f.takeover), ms(slices.Min(f.takeover)), ms(slices.Max(f.takeover)))
		first, all, takeover = append(first, f.first), append(all, f.all), append(takeover, f.takeover...)
		claims += f.owned.claims
	}
	table := tabwriter.NewWriter(w.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "time from the kill\tmeasured\tp50\tp99\tmax\tbudget")
	for _, row := range []struct {
		what   string
		sample times
		budget time.Duration
	}{
		{"next 250, any survivor", first, acceptBudget},
		{"next 250, each survivor", all, acceptBudget},
		{"first delivery, each destination of the dead node", takeover, deliverBudget},
	} {
		slices.Sort(row.sample)
		p99 := row.sample.quantile(0.99)
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\n", row.what, len(row.sample),
			ms(row.sample.quantile(0.5)), ms(p99), ms(row.sample.quantile(1)), ms(row.budget))
		if p99 > row.budget {
			w.Violation("%s: p99 %s is over %s", row.what, ms(p99), ms(row.budget))
		}
	}
	if err := table.Flush(); err != nil {
		w.Violation("write the table: %v", err)
	}
	w.Say("%d deaths with %d claims under way: %d duplicates, %d in doubt, %d held", len(deaths), claims, found.Duplicates, found.InDoubt, found.Held)
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
