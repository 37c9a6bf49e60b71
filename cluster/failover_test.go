package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// traffic proposes acceptances on several nodes until stopped. Each must come
// to CODE_OK: a second application of one would be refused as existing.
type traffic struct {
	t        *testing.T
	stop     context.CancelFunc
	wg       sync.WaitGroup
	accepted atomic.Int64
	unknown  atomic.Int64
}

func startTraffic(t *testing.T, nodes ...*testNode) *traffic {
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{t: t, stop: cancel}
	for _, n := range nodes {
		for range 4 {
			tr.wg.Go(func() { tr.run(ctx, n) })
		}
	}
	t.Cleanup(tr.finish)
	return tr
}

func (tr *traffic) run(ctx context.Context, n *testNode) {
	body := make([]byte, 6<<10)
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(tr.t.Context(), 30*time.Second)
		result, _, err := n.cluster.Propose(once, message(tr.t, body), body)
		cancel()
		switch {
		case errors.Is(err, ErrUnknownOutcome):
			tr.unknown.Add(1)
		case errors.Is(err, ErrNoQuorum):
		case err != nil:
			tr.t.Errorf("propose on %s: %v", n.name, err)
		case result.Code != pb.EventResult_CODE_OK:
			tr.t.Errorf("propose on %s: %v %s", n.name, result.Code, result.Text)
		default:
			tr.accepted.Add(1)
		}
	}
}

func (tr *traffic) finish() {
	tr.stop()
	tr.wg.Wait()
}

func (tr *traffic) awaitMore(n int64) {
	tr.t.Helper()
	from := tr.accepted.Load()
	eventually(tr.t, fmt.Sprintf("%d more acceptances", n), func() bool { return tr.accepted.Load() >= from+n })
}

// check wants every acceptance in every state, once.
func (tr *traffic) check(w *world, names ...string) {
	tr.t.Helper()
	w.checkEqual(names...)
	got, low := int64(w.nodes[names[0]].pending()), tr.accepted.Load()
	if high := low + tr.unknown.Load(); got < low || got > high {
		tr.t.Errorf("%d pending recipients, want %d to %d", got, low, high)
	}
	tr.t.Logf("%d accepted, %d unknown, %d in the state", low, tr.unknown.Load(), got)
}

func TestLeaderStops(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	w.nodes["a"].configure()
	old := w.leader(w.names...)
	rest := w.others(old.name)
	tr := startTraffic(t, w.nodes[rest[0]], w.nodes[rest[1]])
	tr.awaitMore(20)
	old.stop()
	w.leader(rest...)
	tr.awaitMore(20)
	old.start()
	w.awaitLeased(w.names...)
	tr.awaitMore(20)
	tr.finish()
	tr.check(w, w.names...)
}

func TestLeaderCutOff(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	w.nodes["a"].configure()
	old := w.leader(w.names...)
	rest := w.others(old.name)
	tr := startTraffic(t, w.nodes["a"], w.nodes["b"], w.nodes["c"])
	tr.awaitMore(20)
	incarnation := old.cluster.Incarnation()
	lost := old.cluster.LeaseChanged()
	w.net.isolate(old.name, rest...)
	select {
	case <-lost:
	case <-time.After(10 * time.Second):
		t.Fatal("the loss of the lease wasn't announced")
	}
	if old.cluster.Leased() || old.cluster.Current() {
		t.Error("the lease changed but is held")
	}
	other := w.leader(rest...)
	eventually(t, "the cut off node is down", func() bool {
		record, _ := other.state.Node(old.name)
		return !record.Active && record.Incarnation == incarnation
	})
	w.net.healAll()
	w.awaitLeased(w.names...)
	if old.cluster.Incarnation() == incarnation {
		t.Error("the node came back in the incarnation that was declared down")
	}
	tr.awaitMore(20)
	tr.finish()
	tr.check(w, w.names...)
	eventually(t, "the node is eligible again", func() bool {
		record, _ := other.state.Node(old.name)
		return record.Eligible
	})
}

// Repeated changes of the leader with everything under way twice or more.
func TestLeaderChangesUnderLoad(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	w.nodes["a"].configure()
	tr := startTraffic(t, w.nodes["a"], w.nodes["b"], w.nodes["c"])
	for range 4 {
		leader := w.leader(w.names...)
		tr.awaitMore(10)
		rest := w.others(leader.name)
		w.net.isolate(leader.name, rest...)
		w.leader(rest...)
		tr.awaitMore(5)
		w.net.healAll()
		w.awaitLeased(w.names...)
	}
	tr.finish()
	tr.check(w, w.names...)
}

func TestNoQuorum(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	logs := map[string]*lockedBuffer{}
	w.adjust = func(cfg *Config) {
		logs[cfg.Node] = &lockedBuffer{}
		cfg.Logger = slog.New(slog.NewTextHandler(logs[cfg.Node], &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	w.startAll()
	w.awaitLeased(w.names...)
	w.nodes["a"].configure()
	leader := w.leader(w.names...)
	rest := w.others(leader.name)
	for _, name := range w.names {
		if c, err := leader.cluster.Condition(t.Context(), name); err != nil || c.NoLease != "" {
			t.Errorf("node %s has its lease, and says %q, %v", name, c.NoLease, err)
		}
	}
	log := logs[leader.name]
	// It may have lost its lease before, and the first of all is announced as one that
	// is back.
	said := func(what string) int { return strings.Count(log.String(), what) }
	const loss, back = `level=ERROR msg="no quorum: `, `level=WARN msg="quorum: `
	losses, returns := said(loss), said(back)
	w.nodes[rest[0]].stop()
	w.nodes[rest[1]].stop()
	eventually(t, "no lease", func() bool { return !leader.cluster.Leased() })
	if c, err := leader.cluster.Condition(t.Context(), leader.name); err != nil || c.NoLease == "" {
		t.Errorf("without a lease the node gives no reason: %v", err)
	}
	eventually(t, "a line about the loss", func() bool { return said(loss) > losses })
	eventually(t, "no leader", func() bool { node, _ := leader.cluster.Leader(); return node == "" })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err := leader.cluster.Propose(ctx, message(t, testBody), testBody)
	if !errors.Is(err, ErrNoQuorum) || errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want ErrNoQuorum after the deadline", err)
	}
	w.nodes[rest[0]].start()
	w.awaitLeased(leader.name, rest[0])
	eventually(t, "a line about the return", func() bool { return said(back) > returns })
	for _, want := range []string{"leased_since=", "leased_for=", "without_for="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in the log:\n%s", want, log)
		}
	}
	leader.must(message(t, testBody), testBody)
	if got := leader.pending(); got != 1 {
		t.Errorf("%d pending recipients, want 1: the withdrawn one must not come", got)
	}
}

// What a follower had under way to a leader that falls silent must not wait for
// an answer once there is another leader, even if that is the follower itself.
func TestProposalsFollowTheLeadership(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Timing.RPC = 15 * time.Second }
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	leader.configure()
	others := w.others(leader.name)
	for _, name := range others {
		w.nodes[name].must(message(t, testBody), testBody) // its stream is open
	}
	w.net.isolate(leader.name, others...)
	errs := make(chan error, len(others))
	for _, name := range others {
		event := message(t, testBody)
		go func() { errs <- w.nodes[name].propose(event, testBody) }()
	}
	next := w.nodes[w.leader(others...).name].cluster
	began := time.Now()
	eventually(t, "the new leader has given up the stream to the old one", func() bool {
		next.forward.mu.Lock()
		defer next.forward.mu.Unlock()
		return next.forward.stream == nil
	})
	// Much later the connection itself would notice that nobody answers.
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the new leader waited %s for the old one", took)
	}
	for range others {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	w.net.healAll()
}
