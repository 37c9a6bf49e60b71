package cluster

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	pb "holdfast/proto/holdfast/v1"
)

func TestGrant(t *testing.T) {
	w := newWorld(t, "a")
	w.adjust = func(c *Config) { c.Timing.Lag = time.Hour } // only what the test says was committed long ago
	w.startAll()
	w.awaitLeased("a")
	c := w.nodes["a"].cluster
	l := c.leadership.Load()
	grant := func(what, want string, incarnation uint64) {
		t.Helper()
		err := l.grant(&pb.PingRequest{
			Node: "a", Incarnation: incarnation, AppliedIndex: c.cfg.State.AppliedIndex(), Time: time.Now().UnixNano(),
		}, c.cfg.Monotonic())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	grant("the active incarnation", "", c.Incarnation())
	grant("another incarnation", "is not active", c.Incarnation()+1)
	now := c.cfg.Monotonic()
	l.mu.Lock()
	l.commits = []commitSample{{at: now - 2*c.cfg.Timing.Lag, index: 1 << 40}}
	l.mu.Unlock()
	grant("far behind", "was committed", c.Incarnation())
	l.mu.Lock()
	l.commits = nil
	l.watched[c.Incarnation()].down = true
	l.mu.Unlock()
	grant("declared down", "is being declared down", c.Incarnation())
}

// The leader's review of who is silent, at times that the test makes up.
func TestReview(t *testing.T) {
	w := newWorld(t, "a")
	w.adjust = func(c *Config) {
		c.Timing.Lease, c.Timing.Margin, c.Timing.Eligible = time.Hour, time.Minute, time.Hour
	}
	w.startAll()
	w.awaitLeased("a")
	w.nodes["a"].stop()
	w.nodes["a"].start() // now it isn't eligible
	w.awaitLeased("a")
	c := w.nodes["a"].cluster
	lease, margin, eligible := c.cfg.Timing.Lease, c.cfg.Timing.Margin, c.cfg.Timing.Eligible
	const now, term = 1000 * time.Hour, 7
	var l *leadership
	review := func(what string, since time.Duration, state watched) []*pb.Event {
		t.Helper()
		l = &leadership{c: c, ctx: t.Context(), term: term, since: since, watched: map[uint64]*watched{c.Incarnation(): &state}}
		if what == "stood still" {
			l.restart(now)
		}
		return l.review(now)
	}
	long := now - 10*eligible
	for _, test := range []struct {
		what  string
		since time.Duration
		state watched
		down  bool
		up    bool
	}{
		{"within the margin", long, watched{seen: long, heard: now - lease - margin/2}, false, true},
		{"beyond the margin", long, watched{seen: long, heard: now - lease - 2*margin}, true, false},
		{"new leader", now - lease, watched{seen: long, heard: long}, false, true},
		{"stood still", long, watched{seen: long, heard: long}, false, true},
		{"came up lately", long, watched{seen: now - eligible/2, heard: now}, false, false},
		{"stayed up", long, watched{seen: long, heard: now}, false, true},
	} {
		events := review(test.what, test.since, test.state)
		down, up := false, false
		for _, e := range events {
			if d := e.GetNodeDown(); d != nil {
				down = true
				if d.Term != term || d.Incarnation != c.Incarnation() {
					t.Errorf("%s: %v", test.what, d)
				}
			}
			up = up || e.GetNodeEligible() != nil
		}
		if down != test.down {
			t.Errorf("%s: declared down: %t", test.what, down)
		}
		if up != test.up {
			t.Errorf("%s: eligible too soon or never: %t", test.what, up)
		}
		if l.watched[c.Incarnation()].down != test.down {
			t.Errorf("%s: not marked", test.what)
		}
	}
}

// A node that pings and can't do its work is silent to the leader.
func TestUnfitIsSilent(t *testing.T) {
	unfit := &watched{heard: time.Second, unfit: errors.New("the clock is wrong")}
	fit := &watched{heard: time.Second}
	l := &leadership{watched: map[uint64]*watched{1: unfit, 2: fit}}
	l.hear(1, time.Minute)
	l.hear(2, time.Minute)
	if unfit.heard != time.Second || fit.heard != time.Minute {
		t.Errorf("the unfit node was heard at %s, the other one at %s", unfit.heard, fit.heard)
	}
}

// A leader that is cut off goes on believing to lead for a while. It grants
// itself nothing on that.
func TestNoLeaseWithoutAProof(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Timing.Heartbeat, c.Timing.LeaderLease = 3*time.Second, 3*time.Second }
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	lost := leader.cluster.LeaseChanged()
	w.net.isolate(leader.name, w.others(leader.name)...)
	select {
	case <-lost:
	case <-time.After(20 * time.Second):
		t.Fatal("the lease never ended")
	}
	if state := leader.cluster.raft.Load().State(); state != raft.Leader {
		t.Errorf("the lease lasted until the leader without a majority became a %s", state)
	}
	w.net.healAll()
}

// A ping takes its time; the lease counts from when it was sent.
func TestLeaseLastsFromTheSending(t *testing.T) {
	const perRead = 50 * time.Millisecond
	w := newWorld(t, "a")
	var slow slowClock
	w.adjust = func(c *Config) {
		c.Now, c.Monotonic = slow.now, slow.monotonic
		c.Timing.Lease = 9 * time.Second // a ping may take a third of it
	}
	w.startAll()
	w.awaitLeased("a")
	c := w.nodes["a"].cluster
	slow.perRead.Store(int64(perRead))
	for range 5 {
		s := c.session.Load()
		if s == nil {
			t.Fatal("the node isn't up")
		}
		if refusal := c.renewLease(t.Context(), nil, s); refusal != "" {
			t.Fatal(refusal)
		}
		if left := c.LeaseUntil() - c.cfg.Monotonic(); left > c.cfg.Timing.Lease-perRead {
			t.Errorf("the lease outlasts its sending: %s are left of %s", left, c.cfg.Timing.Lease)
		}
	}
	slow.perRead.Store(0)
}

func TestCurrentNeedsWhatWasCommitted(t *testing.T) {
	var l lease
	l.init()
	l.renew(0, time.Second, 100)
	if l.current(0, 99) {
		t.Error("current, though what was committed is not applied")
	}
	if !l.current(0, 100) || l.current(time.Second, 100) {
		t.Error("want current until the lease ends")
	}
	l.renew(0, 2*time.Second, 200)
	if !l.current(0, 100) || l.current(time.Second, 100) {
		t.Error("want the older lease to count until its own end")
	}
}

// Who looked in a gap between two leases waits for a change, however short it was.
func TestGapInTheLeaseIsAChange(t *testing.T) {
	var l lease
	l.init()
	l.renew(0, time.Second, 1)
	changed := l.changed.wait()
	fired := func() bool {
		select {
		case <-changed:
			return true
		default:
			return false
		}
	}
	l.renew(time.Second/2, 2*time.Second, 2)
	if fired() {
		t.Error("a lease that goes on is no change")
	}
	l.renew(3*time.Second, 4*time.Second, 3)
	if !fired() {
		t.Error("nobody hears of the new lease")
	}
}

func TestOutcomesOfRaft(t *testing.T) {
	for err, want := range map[error]outcomeKind{
		raft.ErrLeadershipLost:               outcomeUnknown,
		raft.ErrRaftShutdown:                 outcomeUnknown,
		raft.ErrAbortedByRestore:             outcomeUnknown,
		errors.New("disk on fire"):           outcomeUnknown,
		raft.ErrNotLeader:                    outcomeRefused,
		raft.ErrEnqueueTimeout:               outcomeRefused,
		raft.ErrLeadershipTransferInProgress: outcomeRefused,
	} {
		if got := raftOutcome(err).kind; got != want {
			t.Errorf("%v: the outcome is %s, want %s", err, got, want)
		}
	}
}

// slowClock is a machine on which time passes while the time of day is read.
type slowClock struct{ perRead, passed atomic.Int64 }

func (c *slowClock) now() time.Time {
	c.passed.Add(c.perRead.Load())
	return time.Now().Add(time.Duration(c.passed.Load()))
}

func (c *slowClock) monotonic() time.Duration { return bootTime() + time.Duration(c.passed.Load()) }

// What is left of a lease when a leader dies is little: survivors don't wait for
// the next tick to ask the new one, and ask again while it knows too few clocks.
func TestNewLeaderIsAskedAtOnce(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) {
		c.Timing.Ping, c.Timing.Lease, c.Timing.Poll = time.Minute, 4*time.Minute, time.Second
	}
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	others := w.others(leader.name)
	before := map[string]time.Duration{}
	for _, name := range w.names {
		before[name] = w.nodes[name].cluster.LeaseUntil()
	}
	leader.giveTo(t, others[0])
	for _, name := range w.names {
		eventually(t, "a lease of "+name+" by the new leader", func() bool { return w.nodes[name].cluster.LeaseUntil() > before[name] })
	}
}

// A ping that ends since leadership moved says so in the reason for which there is
// no lease, which an operator reads.
func TestPingThatEndsSaysWhy(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	s := leader.cluster.session.Load()
	w.nodes[w.others(leader.name)[0]].stop()
	moved := make(chan struct{})
	close(moved)
	eventually(t, "a ping ends without a proof", func() bool {
		refusal := leader.cluster.renewLease(t.Context(), moved, s)
		if strings.Contains(refusal, "cancel") {
			t.Errorf("the reason is %q", refusal)
		}
		return refusal != ""
	})
}
