package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	"holdfast/pki"
	pb "holdfast/proto/holdfast/v1"
)

// Kinds of raft log store.
const (
	LogStoreWAL    = "wal"
	LogStoreBoltDB = "boltdb"
)

// Config says who a node is, where its data and its peers are, and what the
// package works on.
type Config struct {
	// Node is the node_id of the node file, unique in the cluster.
	Node string
	// DataDir holds node.json and raft/.
	DataDir string
	// RaftListener accepts raft connections; Run closes it.
	RaftListener net.Listener
	// RaftAdvertise is the host:port at which peers reach RaftListener; ""
	// takes the listener's own address.
	RaftAdvertise string
	// AdminAdvertise is the host:port at which peers reach PeerService.
	AdminAdvertise string
	// SMTPAddress and Version are told to the other nodes.
	SMTPAddress string
	Version     string
	// LogStore is "wal" or "boltdb". It can't change once there is data.
	LogStore string

	// BootstrapExpect is the number of first members, 0 for a node that only
	// joins. It counts at the first start only.
	BootstrapExpect int
	// Join lists admin addresses to ask for a cluster.
	Join []string

	State   *fsm.State
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// Fatal is called when the node must stop: a failed write, a foreign data
	// folder. It must not block.
	Fatal func(error)

	// Sessions counts the sessions at the front door; nil counts none.
	Sessions func() int
	// StuckBulks are the bulk operations that this node can't read on; nil are none.
	StuckBulks func() []string
	// DiskLow reports whether the disk of DataDir has reached its reserve; nil
	// where nobody looks. It is asked with every ping.
	DiskLow func() bool

	// Faults is what drills can do to this node.
	Faults Faults
	// FrontDoor says why no mail is taken, "" while it is; nil: it always is.
	FrontDoor func() string
	// Answered lists the messages that were answered 250 during a drill; nil has
	// none.
	Answered func(drill string, each func(ids []string) error) error

	// VerifyRecipient asks a destination that this node owns for a recipient, for
	// another node; nil can't.
	VerifyRecipient func(context.Context, *pb.VerifyRecipientRequest) (*pb.VerifyRecipientResponse, error)

	// Now is the wall clock.
	Now func() time.Time
	// Monotonic is a clock that never jumps and goes on while the machine
	// sleeps: CLOCK_BOOTTIME unless set.
	Monotonic func() time.Duration
	// TLS secures raft and PeerService; nil leaves them in plain text, which is
	// for loopback.
	TLS *pki.Credentials
	// Certificates are the ends of this node's certificates, for the others to
	// know of; nil for none.
	Certificates func() []pki.Expiry
	// DialPeer connects to a peer, for raft and for gRPC.
	DialPeer func(ctx context.Context, address string) (net.Conn, error)

	Timing Timing
	Limits Limits
}

// Timing holds the package's times. Zero fields take the default.
type Timing struct {
	// Heartbeat is raft's heartbeat and election time-out.
	Heartbeat time.Duration
	// LeaderLease is how long a leader stays one without a majority; at most
	// Heartbeat.
	LeaderLease time.Duration
	// Commit is how soon a follower learns the commit index on an idle log.
	Commit time.Duration
	// RPC bounds one call between nodes.
	RPC time.Duration
	// Lease lasts from the sending of a granted ping.
	Lease time.Duration
	// Ping is the time between pings.
	Ping time.Duration
	// Margin is what the leader waits beyond a lease before it declares a node
	// down: for clocks that drift apart.
	Margin time.Duration
	// Verify is the shortest time between two proofs of leadership.
	Verify time.Duration
	// Lag is how far a node's state may trail the log and still get a lease.
	Lag time.Duration
	// Eligible is how long a node that came back must have been up before it
	// owns destinations again.
	Eligible time.Duration
	// Clock is how far a node's wall clock may be from the median of the cluster
	// for it to get a lease.
	Clock time.Duration
	// Poll is the time between steps of joining.
	Poll time.Duration
	// Hang is when a log write that doesn't end makes a leader fall silent.
	Hang time.Duration
	// Stable is how long a node that joins must have kept up before it votes.
	Stable time.Duration
	// Store is when a log write that doesn't end ends the node.
	Store time.Duration
}

// Limits bounds memory and disk. Zero fields take the default.
type Limits struct {
	// EntriesInFlight is how many entries a lane has under way at once.
	EntriesInFlight int
	// ControlBytes and BodyBytes bound what waits or is under way in a lane;
	// Propose blocks beyond.
	ControlBytes int64
	BodyBytes    int64
	// TrailingBytes of the log are kept behind a snapshot, but at most a tenth
	// of the disk.
	TrailingBytes int64
	// SnapshotBytes written to the log make a snapshot due; by default at most
	// half of TrailingBytes.
	SnapshotBytes int64
}

// DefaultTiming suits a LAN: a new leader within about two seconds.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat:   500 * time.Millisecond,
		LeaderLease: 400 * time.Millisecond,
		Commit:      10 * time.Millisecond,
		RPC:         10 * time.Second,
		Lease:       2 * time.Second,
		Ping:        250 * time.Millisecond,
		Margin:      500 * time.Millisecond,
		Verify:      100 * time.Millisecond,
		Lag:         5 * time.Second,
		Eligible:    30 * time.Second,
		Clock:       2 * time.Second,
		Poll:        time.Second,
		Hang:        3 * time.Second,
		Stable:      2 * time.Second,
		Store:       20 * time.Second,
	}
}

// DefaultLimits are what a node uses unless told otherwise.
func DefaultLimits() Limits {
	return Limits{
		EntriesInFlight: 1,
		ControlBytes:    8 << 20,
		BodyBytes:       16 << 20,
		TrailingBytes:   2 << 30,
		SnapshotBytes:   256 << 20,
	}
}

// again is when a ping that brought nothing is followed by the next: in time for
// the leader's next proof.
func (t *Timing) again() time.Duration { return t.Verify / 2 }

func (t *Timing) setDefaults() {
	d := DefaultTiming()
	for _, f := range []struct{ field, value *time.Duration }{
		{&t.Heartbeat, &d.Heartbeat}, {&t.LeaderLease, &d.LeaderLease}, {&t.Commit, &d.Commit},
		{&t.RPC, &d.RPC}, {&t.Lease, &d.Lease}, {&t.Ping, &d.Ping}, {&t.Margin, &d.Margin},
		{&t.Verify, &d.Verify}, {&t.Lag, &d.Lag}, {&t.Eligible, &d.Eligible}, {&t.Clock, &d.Clock}, {&t.Poll, &d.Poll},
		{&t.Hang, &d.Hang}, {&t.Stable, &d.Stable}, {&t.Store, &d.Store},
	} {
		if *f.field == 0 {
			*f.field = *f.value
		}
	}
}

func (l *Limits) setDefaults() {
	d := DefaultLimits()
	if l.EntriesInFlight == 0 {
		l.EntriesInFlight = d.EntriesInFlight
	}
	for _, f := range []struct{ field, value *int64 }{
		{&l.ControlBytes, &d.ControlBytes}, {&l.BodyBytes, &d.BodyBytes},
		{&l.TrailingBytes, &d.TrailingBytes},
	} {
		if *f.field == 0 {
			*f.field = *f.value
		}
	}
	if l.SnapshotBytes == 0 {
		l.SnapshotBytes = min(d.SnapshotBytes, l.TrailingBytes/2)
	}
}

func (c *Config) setDefaults() {
	c.Timing.setDefaults()
	c.Limits.setDefaults()
	if c.RaftAdvertise == "" && c.RaftListener != nil {
		c.RaftAdvertise = c.RaftListener.Addr().String()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Monotonic == nil {
		c.Monotonic = bootTime
	}
	if c.Certificates == nil {
		c.Certificates = func() []pki.Expiry { return nil }
	}
	if c.Sessions == nil {
		c.Sessions = func() int { return 0 }
	}
	if c.StuckBulks == nil {
		c.StuckBulks = func() []string { return nil }
	}
	if c.DialPeer == nil {
		c.DialPeer = dialTCP
	}
	if c.VerifyRecipient == nil {
		c.VerifyRecipient = pb.UnimplementedPeerServiceServer{}.VerifyRecipient
	}
	if c.FrontDoor == nil {
		c.FrontDoor = func() string { return "" }
	}
	if c.Answered == nil {
		c.Answered = func(string, func([]string) error) error { return nil }
	}
}

func (c *Config) validate() error {
	switch {
	case c.Node == "":
		return errors.New("node_id is empty")
	case strings.ContainsAny(c.Node, "@/ \t\n"):
		return fmt.Errorf("node_id %q must not contain '@', '/' or blanks", c.Node)
	case c.DataDir == "":
		return errors.New("data_dir is empty")
	case c.RaftListener == nil:
		return errors.New("raft.listen: no listener")
	case c.AdminAdvertise == "":
		return errors.New("admin.advertise is empty")
	case c.LogStore != LogStoreWAL && c.LogStore != LogStoreBoltDB:
		return fmt.Errorf("raft.log_store %q: want %q or %q", c.LogStore, LogStoreWAL, LogStoreBoltDB)
	case c.BootstrapExpect < 0:
		return fmt.Errorf("cluster.bootstrap_expect %d is negative", c.BootstrapExpect)
	case c.State == nil || c.Logger == nil || c.Metrics == nil || c.Fatal == nil:
		return errors.New("cluster: State, Logger, Metrics and Fatal must be set")
	case c.Timing.LeaderLease > c.Timing.Heartbeat:
		return fmt.Errorf("cluster: leader lease %s is longer than the heartbeat time-out %s", c.Timing.LeaderLease, c.Timing.Heartbeat)
	case c.Timing.Lease < 3*c.Timing.Ping:
		return fmt.Errorf("cluster: a lease of %s outlasts less than three pings of %s", c.Timing.Lease, c.Timing.Ping)
	}
	return nil
}
