package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// summary is the median over the rounds of one system at one size.
type summary struct {
	figure
	Rounds int `json:"rounds"`
	// To Postfix in the same run, of delivered messages a second in the flood and
	// of those through; 0 without it.
	Ratio        float64 `json:"ratioToPostfix"`
	ThroughRatio float64 `json:"throughRatioToPostfix"`
}

// summarize takes medians, so that one disturbed round changes little.
func summarize(figures []figure) []summary {
	type key struct {
		system string
		size   int
	}
	groups := map[key][]figure{}
	var order []key
	for _, f := range figures {
		k := key{f.System, f.Size}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], f)
	}
	slices.SortStableFunc(order, func(a, b key) int { return a.size - b.size })
	var all []summary
	for _, k := range order {
		all = append(all, summarizeGroup(groups[k]))
	}
	for i := range all {
		for _, other := range all {
			if other.System == postfixName && other.Size == all[i].Size && other.Delivered > 0 {
				all[i].Ratio = all[i].Delivered / other.Delivered
				all[i].ThroughRatio = all[i].Through / other.Through
			}
		}
	}
	return all
}

func summarizeGroup(group []figure) summary {
	s := summary{figure: group[0], Rounds: len(group)}
	s.Round = 0
	s.Messages = median(group, func(f figure) int { return f.Messages })
	s.Accepted = median(group, func(f figure) float64 { return f.Accepted })
	s.Delivered = median(group, func(f figure) float64 { return f.Delivered })
	s.Through = median(group, func(f figure) float64 { return f.Through })
	s.P50 = median(group, func(f figure) time.Duration { return f.P50 })
	s.P99 = median(group, func(f figure) time.Duration { return f.P99 })
	s.Max = median(group, func(f figure) time.Duration { return f.Max })
	s.Deferred = median(group, func(f figure) int { return f.Deferred })
	return s
}

// median of an even number is the lower one of the middle: a value that was
// really measured.
func median[T int | float64 | time.Duration](group []figure, of func(figure) T) T {
	values := make([]T, len(group))
	for i, f := range group {
		values[i] = of(f)
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func printTable(out io.Writer, summaries []summary) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "size\tsystem\taccepted/s\tdelivered/s\tp50\tp99\tmax\tmessages\t4xx\tto Postfix\tthrough/s\tto Postfix\t")
	for _, s := range summaries {
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%s\t%s\t%s\t%d\t%d\t%s\t%.0f\t%s\t\n", bytesText(s.Size), s.System,
			s.Accepted, s.Delivered, millis(s.P50), millis(s.P99), millis(s.Max), s.Messages, s.Deferred, times(s.Ratio),
			s.Through, times(s.ThroughRatio))
	}
	return w.Flush()
}

// printJSON writes a line for each measurement, then one for each median.
func printJSON(out io.Writer, figures []figure, summaries []summary) error {
	encoder := json.NewEncoder(out)
	for _, f := range figures {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	for _, s := range summaries {
		if err := encoder.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

func times(ratio float64) string {
	if ratio == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fx", ratio)
}

func bytesText(n int) string {
	if n%1024 == 0 {
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return fmt.Sprintf("%d B", n)
}

func millis(d time.Duration) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)), ".0") + " ms"
}
