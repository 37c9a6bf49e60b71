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
// known, or that the event was never taken; proposing again is always right.
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
	Chance   func() float64 // 0 to 1, for jitter and weights
	Logger   *slog.Logger
	Metrics  prometheus.Registerer
	// Grace is how long a stop waits for attempts under way before it resets
	// those that haven't sent their last byte.
	Grace time.Duration
}

// Times that the design fixes.
const (
	attemptTimeout   = 30 * time.Minute // an attempt ends after this at the latest
	reconcileEvery   = 10 * time.Second // claims without an attempt are looked for
	rescanEvery      = time.Minute      // the whole queue's head is looked at again
	expireEvery      = 15 * time.Second
	idleTimeout      = 10 * time.Second // how long a connection is kept for another message
	recentSuccess    = 30 * time.Second // a host failure after a success this young is a limit, no outage
	firstProbe       = 5 * time.Second
	defaultProbeMax  = 5 * time.Minute
	probeJitter      = 0.1
	hostFailureDelay = 5 * time.Second // next try of a message after a host failure that is no outage
	proposeRetry     = 200 * time.Millisecond
	defaultGrace     = 10 * time.Second
	commitGrace      = 5 * time.Second // for outcomes after the grace is over
)

// maxRecipients bounds an attempt: dsn.MaxRecipients fit into one report, and
// RFC 5321 section 4.5.3.1.8 promises room for 100.
const maxRecipients = 50

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
	return nil
}
