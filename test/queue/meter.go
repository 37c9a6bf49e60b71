package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"holdfast/test/harness"
)

// reading is what a node has used and done so far.
type reading struct {
	at       time.Time
	resident int64         // bytes
	cpu      time.Duration // of the process
	events   float64       // folded since the process began, whatever they came to
	probes   float64
	busy     float64 // percent of a processor before the reading, where it was watched
}

func read(ctx context.Context, n *harness.Node) (r reading, err error) {
	memory, err := n.Memory()
	if err != nil {
		return r, err
	}
	r.at, r.resident = time.Now(), memory.Resident
	if r.cpu, err = cpuOf(n.PID()); err != nil {
		return r, err
	}
	for name, into := range map[string]*float64{
		`holdfast_events_applied_total{result="ok"}`:      &r.events,
		`holdfast_events_applied_total{result="stale"}`:   &r.events,
		`holdfast_events_applied_total{result="refused"}`: &r.events,
		`holdfast_probes_total{result="failed"}`:          &r.probes,
		`holdfast_probes_total{result="recovered"}`:       &r.probes,
	} {
		value, err := n.Metric(ctx, name)
		if err != nil {
			return r, err
		}
		*into += value
	}
	return r, nil
}

// cpuOf is the processor time that a process has used, from the kernel, in
// hundredths of a second.
func cpuOf(pid int) (time.Duration, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in brackets may hold blanks; user and system time are the 12th and
	// 13th field behind it.
	_, rest, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, content)
	}
	var total time.Duration
	for _, field := range fields[11:13] {
		ticks, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * (time.Second / 100)
	}
	return total, nil
}

// readAll reads every node.
func (w *world) readAll(ctx context.Context) (map[string]reading, error) {
	all := map[string]reading{}
	for _, n := range w.cluster.Nodes {
		r, err := read(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		all[n.Name] = r
	}
	return all, nil
}

// watch reads all nodes, lets a time go by, and reads them again.
func (w *world) watch(ctx context.Context, long time.Duration) (before, after map[string]reading, err error) {
	if before, err = w.readAll(ctx); err != nil {
		return nil, nil, err
	}
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	after, err = w.readAll(ctx)
	return before, after, err
}

// busy is the share of one processor that was used between two readings, in percent.
func busy(before, after reading) float64 {
	return 100 * (after.cpu - before.cpu).Seconds() / after.at.Sub(before.at).Seconds()
}
