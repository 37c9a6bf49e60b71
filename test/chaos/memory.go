package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// What a node may have in RAM above its idle state, in MB: windows, not queues.
const (
	// queueWindow is the budget for a deferred queue of any length: what a node
	// at rest has more with the queue than when it is gone. The state's tables
	// in memory and its cache are there either way.
	queueWindow = 100
	// busyWindow is for a node under full load: four memtables of 64 MB, a block
	// cache, 128 cached log entries of 512 KB, 24 MB of proposals in each of
	// proposer and leader, what raft has under way to two followers; all of it
	// twice, as the collector lets the heap double before it frees (GOGC 100).
	busyWindow = 1200
)

// memoryRun gives a cluster more than it could hold in memory and prints what
// each process has in RAM.
func memoryRun(ctx context.Context, o options, out io.Writer) (err error) {
	uploads, size, queued, stall := 20, 50_000_000, 200_000, 30*time.Second
	if o.short {
		uploads, size, queued, stall = 10, 10_000_000, 6000, 5*time.Second
	}
	o.slots = 40
	w, up, err := buildWithUp(ctx, o, "memory", out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.Close(), w.close()) }()
	m := &meter{world: w, idle: map[string]int64{}, full: map[string]int64{}}
	if err := m.rest(ctx); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return m.uploads(ctx, uploads, size) },
		func() error { return m.queue(ctx, queued) },
		func() error { return m.comesBack(ctx, queued+uploads) },
		func() error { return m.stalls(ctx, up, queued/20, stall) },
		func() error { return m.gone(ctx) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("%w\n%s", err, w.cluster.Tails(8))
		}
	}
	w.verify(ctx)
	return w.verdict("memory run")
}

// meter reads the memory of all nodes at each step.
type meter struct {
	*world
	idle map[string]int64 // by node, when nothing had happened yet
	full map[string]int64 // by node, when the queue waited
}

// rest notes what the nodes have in RAM without load.
func (m *meter) rest(ctx context.Context) error {
	if err := m.fill(ctx, "warm", m.cluster.SMTP(), []string{"user@" + lateDomain}, 50, 2<<10); err != nil {
		return err
	}
	for _, n := range m.cluster.Nodes {
		memory, err := n.Memory()
		if err != nil {
			return err
		}
		m.idle[n.Name] = memory.Resident
	}
	return m.show("idle", 0)
}

// begin resets the peaks for a step.
func (m *meter) begin() error {
	for _, n := range m.cluster.Nodes {
		if err := n.ResetPeak(); err != nil {
			return err
		}
	}
	return nil
}

// show prints a line for each node and holds its peak against idle plus window
// MB; 0 is no limit.
func (m *meter) show(step string, window int64) error {
	for _, n := range m.cluster.Nodes {
		memory, err := n.Memory()
		if err != nil {
			return err
		}
		above := (memory.Peak - m.idle[n.Name]) >> 20
		m.Say("%-34s node %s: resident %4d MB, peak of the step %4d MB, %4d above idle (window %d)", step, n.Name,
			memory.Resident>>20, memory.Peak>>20, above, window)
		if window > 0 && above > window {
			m.Violation("%s: node %s had %d MB more than idle, the window is %d", step, n.Name, above, window)
		}
	}
	return nil
}

// uploads has large messages come in at the same time.
func (m *meter) uploads(ctx context.Context, count, size int) error {
	if err := m.begin(); err != nil {
		return err
	}
	loader, err := load.New(load.Config{
		Addresses: m.cluster.SMTP(), Sessions: count, Run: "upload", Count: count, Duration: 10 * time.Minute,
		Recipients: m.recipients(), Size: size, Timeout: 2 * time.Minute,
	})
	if err != nil {
		return err
	}
	report, err := loader.Run(ctx)
	if err != nil {
		return err
	}
	m.Say("uploads of %d MB, %d at the same time: %d accepted, %d deferred, %d refused in %s", size/1e6, count,
		report.Count(load.Accepted), report.Count(load.Deferred), report.Count(load.Refused), report.Window.Round(time.Millisecond))
	if report.Count(load.Accepted) < count {
		m.Violation("%d of %d uploads were accepted", report.Count(load.Accepted), count)
	}
	return m.show("uploads", busyWindow)
}

// queue has small messages accepted for the destination that is down.
func (m *meter) queue(ctx context.Context, count int) error {
	if err := m.begin(); err != nil {
		return err
	}
	if err := m.fill(ctx, "queue", m.cluster.SMTP(), m.recipients(), count/2, 1<<10); err != nil {
		return err
	}
	if err := m.show("half the queue is there", busyWindow); err != nil {
		return err
	}
	if err := m.begin(); err != nil {
		return err
	}
	if err := m.fill(ctx, "queue2", m.cluster.SMTP(), m.recipients(), count-count/2, 1<<10); err != nil {
		return err
	}
	if err := m.show("the whole queue is there", busyWindow); err != nil {
		return err
	}
	if err := m.settle(ctx, m.full); err != nil {
		return err
	}
	return m.show("the queue waits", 0)
}

// settle waits until the runtime has given back what it will, and notes what is
// left.
func (m *meter) settle(ctx context.Context, into map[string]int64) error {
	for _, n := range m.cluster.Nodes {
		if err := n.Collect(ctx); err != nil {
			return err
		}
	}
	if err := until(ctx, time.Now().Add(15*time.Second)); err != nil {
		return err
	}
	for _, n := range m.cluster.Nodes {
		memory, err := n.Memory()
		if err != nil {
			return err
		}
		into[n.Name] = memory.Resident
		if err := m.explain(ctx, n, memory); err != nil {
			return err
		}
	}
	return m.begin()
}

// explain says what a node's memory at rest is made of.
func (m *meter) explain(ctx context.Context, n *harness.Node, memory harness.Memory) error {
	values := map[string]int64{}
	for _, name := range []string{"go_memstats_heap_alloc_bytes", "go_memstats_heap_idle_bytes", "go_memstats_heap_released_bytes"} {
		value, err := n.Metric(ctx, name)
		if err != nil {
			return err
		}
		values[name] = int64(value) >> 20
	}
	m.Say("node %s at rest: resident %d MB, of it %d MB pages of files; heap: %d MB in use, %d MB free and not given back", n.Name,
		memory.Resident>>20, memory.Mapped>>20, values["go_memstats_heap_alloc_bytes"],
		values["go_memstats_heap_idle_bytes"]-values["go_memstats_heap_released_bytes"])
	return nil
}

// gone compares memory at rest with and without the queue.
func (m *meter) gone(ctx context.Context) error {
	rest := map[string]int64{}
	if err := m.settle(ctx, rest); err != nil {
		return err
	}
	for _, n := range m.cluster.Nodes {
		more := (m.full[n.Name] - rest[n.Name]) >> 20
		m.Say("node %s at rest: %d MB with the queue, %d MB without, %d more (window %d)", n.Name,
			m.full[n.Name]>>20, rest[n.Name]>>20, more, queueWindow)
		if more > queueWindow {
			m.Violation("node %s had %d MB more with the queue than without, the window is %d", n.Name, more, queueWindow)
		}
	}
	return nil
}

// comesBack starts the destination and waits until the queue is empty.
func (m *meter) comesBack(ctx context.Context, queued int) (err error) {
	if err := m.begin(); err != nil {
		return err
	}
	began := time.Now()
	server, err := sink.Start(sink.Config{Address: m.next, IDHeader: load.HeaderID, Recording: sink.RecordIDs})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	bounded, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	if err := server.WaitStats(bounded, func(s sink.Stats) bool { return s.Committed > 0 }); err != nil {
		return err
	}
	first := time.Since(began)
	if err := server.WaitStats(bounded, func(s sink.Stats) bool { return s.Committed >= queued }); err != nil {
		return fmt.Errorf("%d of %d arrived: %w", server.Stats().Committed, queued, err)
	}
	took := time.Since(began)
	// Sessions under way when enough was accepted have brought a few more.
	if err := m.emptied(ctx); err != nil {
		return err
	}
	m.Say("the destination is back: first arrival after %s, all %d after %s, %.0f a second", first.Round(time.Millisecond), queued,
		took.Round(time.Millisecond), float64(queued)/(took-first).Seconds())
	return m.show("the destination came back", busyWindow)
}

// stalls has a destination stop in every slot while mail for it comes in.
func (m *meter) stalls(ctx context.Context, up *sink.Server, count int, long time.Duration) error {
	// Slots are opened as deliveries succeed.
	if err := m.fill(ctx, "flow", m.cluster.SMTP(), []string{"user@" + lateDomain}, 4000, 2<<10); err != nil {
		return err
	}
	if err := m.emptied(ctx); err != nil {
		return err
	}
	if err := m.begin(); err != nil {
		return err
	}
	release := make(chan struct{})
	up.SetAnswer(sink.On(sink.Dot, sink.Reply{Hold: release}))
	before := up.Stats().Committed
	began := time.Now()
	err := m.fill(ctx, "stall", m.cluster.SMTP(), []string{"user@" + lateDomain}, count, 2<<10)
	if err == nil {
		err = until(ctx, began.Add(long))
	}
	stuck := up.Stats()
	close(release)
	up.SetAnswer(nil)
	if err != nil {
		return err
	}
	m.Say("a destination stalled for %s in %d connections: %d of %d arrived meanwhile", time.Since(began).Round(time.Second), stuck.Open, stuck.Committed-before, count)
	if err := m.show("the destination stalls", busyWindow); err != nil {
		return err
	}
	return m.emptied(ctx)
}

// emptied waits until nothing is pending.
func (m *meter) emptied(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return harness.Eventually(ctx, "an empty queue", func(ctx context.Context) error {
		var status harness.Status
		if err := m.cluster.Nodes[0].JSON(ctx, &status, "status"); err != nil {
			return err
		}
		if status.Queue.Pending > 0 {
			return fmt.Errorf("%d recipients pending", status.Queue.Pending)
		}
		return nil
	})
}
