package delivery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// Proposer puts events into the log. An error means that the outcome isn't
// known, or that the event was never taken; proposing again is always right. An
// event that no log can take, for its size or its text, comes to CODE_INVALID.
type Proposer interface {
	Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error)
}

// Lease is this node's right to act.
type Lease interface {
	Leased() bool
	// LeaseChanged is closed at the next change of Leased.
	LeaseChanged() <-chan struct{}
	// Incarnation is 0 while the cluster doesn't count this node as up.
	Incarnation() uint64
}

// Config is what a Scheduler needs.
type Config struct {
	Node     string // this node's name
	Hostname string // the reporting MTA
	State    *fsm.State
	Proposer Proposer
	Lease    Lease
	Dialer   *smtpout.Dialer
	Now      func() time.Time
	Chance   func() float64 // 0 to 1, for jitter and weights; called by several goroutines
	Logger   *slog.Logger
	Metrics  prometheus.Registerer
	// Grace is how long a stop waits for attempts under way before it resets
	// those that haven't sent their last byte.
	Grace  time.Duration
	Timing Timing
}

// Timing holds the package's times. Zero fields take the default.
type Timing struct {
	// Attempt is when an attempt ends at the latest.
	Attempt time.Duration
	// Callout is when a call-out ends at the latest. Those who asked have gone by then;
	// what it comes to is kept for when they come again.
	Callout time.Duration
	// Reconcile is the time between looks for claims without an attempt; they
	// are given back at the second look.
	Reconcile time.Duration
	// Rescan is the time between looks at the head of every queue.
	Rescan time.Duration
	// Expire is the time between looks for what has outlived its retention.
	Expire time.Duration
	// Idle is how long a connection is kept for another message.
	Idle time.Duration
	// HostDelay is the time to the next try of a message after a host failure
	// that is no outage.
	HostDelay time.Duration
	// Commit is how long a stop waits, after the grace, for the replies to
	// messages sent whole, and then as long again for outcomes.
	Commit time.Duration
}

// DefaultTiming is that of the design.
func DefaultTiming() Timing {
	return Timing{
		Attempt:   30 * time.Minute,
		Callout:   2 * time.Minute,
		Reconcile: 5 * time.Second,
		Rescan:    time.Minute,
		Expire:    15 * time.Second,
		Idle:      10 * time.Second,
		HostDelay: 5 * time.Second,
		Commit:    3 * time.Second,
	}
}

func (t *Timing) setDefaults() {
	d := DefaultTiming()
	for _, f := range []struct{ field, value *time.Duration }{
		{&t.Attempt, &d.Attempt}, {&t.Callout, &d.Callout}, {&t.Reconcile, &d.Reconcile}, {&t.Rescan, &d.Rescan},
		{&t.Expire, &d.Expire}, {&t.Idle, &d.Idle}, {&t.HostDelay, &d.HostDelay},
		{&t.Commit, &d.Commit},
	} {
		if *f.field == 0 {
			*f.field = *f.value
		}
	}
}

// Times that the design fixes.
const (
	recentSuccess   = 30 * time.Second // a host failure after an answer this young is a limit, no outage
	firstProbe      = 5 * time.Second
	defaultProbeMax = 5 * time.Minute
	probeJitter     = 0.1
	claimPause      = time.Second // after claims of which none was granted
	proposeRetry    = 200 * time.Millisecond
	decisionHolds   = 30 * time.Second // an end that nobody's attempt came to isn't proposed for longer
	defaultGrace    = 10 * time.Second
)

// maxRecipients bounds an attempt: dsn.MaxRecipients fit into one report, and
// RFC 5321 section 4.5.3.1.8 promises room for 100.
const maxRecipients = 50

// maxClaims bounds the claims that one event makes or gives back: an event
// touches at most 1,000 records and is at most 384 KiB.
const maxClaims = 500

// maxAttempts bounds the attempts of a node at one time, whatever the number of
// destinations: each holds a connection and a window of its body in memory.
const maxAttempts = 2000

func (c *Config) validate() error {
	switch {
	case c.Node == "" || c.Hostname == "":
		return errors.New("delivery: a node name and a host name are needed")
	case c.State == nil || c.Proposer == nil || c.Lease == nil || c.Dialer == nil:
		return errors.New("delivery: state, proposer, lease and dialer are needed")
	case c.Now == nil || c.Chance == nil || c.Logger == nil || c.Metrics == nil:
		return errors.New("delivery: clock, chance, logger and metrics are needed")
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	c.Timing.setDefaults()
	return nil
}
