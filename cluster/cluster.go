package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// Cluster is one node's part in the cluster.
type Cluster struct {
	cfg           Config
	log           *slog.Logger
	metrics       *metrics
	stores        *stores
	logs          *logWatch
	trailingBytes int64
	maxLogBytes   int64
	layer         *streamLayer

	// Set once Run has started raft.
	raft      atomic.Pointer[raft.Raft]
	transport *transport
	entries   raft.LogStore // the log, with raft's cache before it

	raftID     string
	identityMu sync.Mutex // guards identity: the cluster id comes later
	identity   identity

	leader      atomic.Pointer[leaderInfo] // never nil
	leaderMoved broadcast
	leaderPoke  chan struct{}
	leads       <-chan bool                // from raft: gained or lost leadership
	leadership  atomic.Pointer[leadership] // nil unless this node leads
	nodes       broadcast                  // a node record changed
	entered     chan struct{}              // closed once this node is a voter

	clock    *wallClock
	lease    lease
	noLease  atomic.Pointer[string] // why the latest ping brought none; never nil
	disksLow atomic.Bool
	// clockOffset is the leader's clock less this node's, in nanoseconds.
	clockOffset atomic.Int64
	session     atomic.Pointer[session] // nil while no incarnation is active
	sessions    broadcast
	lanes       [2]laneLimits
	forward     forwarder
	pings       peerLink
	cut         cut
	suffering   suffering

	joining   sync.Mutex // serialises changes of the configuration on the leader
	transfers transfers

	inviteMu sync.Mutex // guards the fields below
	invited  []string   // addresses of a cluster that an operator named
	step     string     // what takePart waits for

	checking sync.Mutex                          // serialises checks of the rows
	verified atomic.Pointer[[]*pb.StateMismatch] // nil where this node has verified nothing

	applyMu sync.Mutex // guards the fields below
	applies sync.WaitGroup
	closing bool
	closed  sync.Once
}

// laneLimits is what the lanes of all incarnations share.
type laneLimits struct {
	name string
	room *semaphore.Weighted // bytes
}

// Open opens the node's files and checks that they are this node's, whole and
// in step with the state. Run does the rest; without Run, call Close.
func Open(cfg Config) (*Cluster, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg:        cfg,
		log:        cfg.Logger,
		metrics:    newMetrics(cfg.Metrics),
		leaderPoke: make(chan struct{}, 1),
		entered:    make(chan struct{}),
		lanes: [2]laneLimits{
			laneControl: {name: "control", room: semaphore.NewWeighted(cfg.Limits.ControlBytes)},
			laneBodies:  {name: "bodies", room: semaphore.NewWeighted(cfg.Limits.BodyBytes)},
		},
	}
	c.cfg.DialPeer = c.cut.dialer(c.cfg.DialPeer)
	c.leader.Store(&leaderInfo{})
	c.clock = newWallClock(cfg.Now, cfg.Monotonic, cfg.Timing.Clock, cfg.Logger)
	c.lease.init()
	c.denied("the node has not come up in the cluster yet")
	c.forward.cluster, c.pings.cluster = c, c
	if err := c.openData(); err != nil {
		return nil, err
	}
	c.registerGauges(cfg.Metrics)
	return c, nil
}

// openData opens node.json and raft's files.
func (c *Cluster) openData() (err error) {
	id, found, err := readIdentity(c.cfg.DataDir)
	if err != nil {
		return err
	}
	if found {
		if err := id.check(c.cfg); err != nil {
			return err
		}
	}
	raftDir := filepath.Join(c.cfg.DataDir, "raft")
	if err := os.MkdirAll(raftDir, 0o700); err != nil {
		return err
	}
	if c.maxLogBytes, err = logBudget(raftDir); err != nil { // it can be a disk of its own
		return err
	}
	c.trailingBytes = min(c.cfg.Limits.TrailingBytes, c.maxLogBytes)
	c.stores, err = openStores(raftDir, c.cfg.LogStore, segmentFor(c.trailingBytes), newHCLog(c.log, c.cfg.Now))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stores.close())
		}
	}()
	if found {
		err = c.stores.checkID(id.RaftID)
	} else {
		id, err = c.setUp()
	}
	if err != nil {
		return err
	}
	c.identity, c.raftID = id, id.RaftID
	if stateID := c.cfg.State.ClusterID(); stateID != "" {
		if err := c.meet(stateID); err != nil {
			return fmt.Errorf("the state in %s: %w", c.cfg.DataDir, err)
		}
	}
	if err := c.stores.reconcile(c.cfg.State.AppliedIndex(), c.log); err != nil {
		return err
	}
	size, err := diskUsage(raftDir)
	if err != nil {
		return err
	}
	c.logs, err = newLogWatch(c.stores.log, size, c.cfg.Timing.Store, c.cfg.Limits.SnapshotBytes, c.metrics, c.cfg.Fatal)
	return err
}

// setUp makes an empty data folder this node's.
func (c *Cluster) setUp() (identity, error) {
	hasData, err := c.stores.hasData()
	if err != nil {
		return identity{}, err
	}
	if hasData || c.cfg.State.AppliedIndex() > 0 {
		return identity{}, fmt.Errorf("%s has data but no node.json: empty the whole folder and let the node join again", c.cfg.DataDir)
	}
	id, err := newIdentity(c.cfg.Node, c.cfg.LogStore, c.cfg.Now())
	if err != nil {
		return identity{}, err
	}
	if err := c.stores.setID(id.RaftID); err != nil {
		return identity{}, err
	}
	return id, id.write(c.cfg.DataDir)
}

// Close closes the files. Run does it too.
func (c *Cluster) Close() error {
	var err error
	c.closed.Do(func() { err = c.stores.close() })
	return err
}

// Run takes part in the cluster until ctx ends, then hands leadership over and
// stops in order. PeerService must be served all the while.
func (c *Cluster) Run(ctx context.Context) error {
	defer c.Close()
	// The connections outlast ctx: handing over needs them.
	if err := c.startRaft(context.WithoutCancel(ctx)); err != nil {
		return errors.Join(err, c.layer.Close())
	}
	var wg sync.WaitGroup
	for _, part := range []func(context.Context){
		c.watchLeader, c.watchNodes, c.lead, c.takePart, c.live, c.keepLease, c.watchLease, c.compact, c.checkRowsDaily,
	} {
		wg.Go(func() { part(ctx) })
	}
	<-ctx.Done()
	if err := c.HandOver(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, errNotLeader) && len(c.configuration()) > 1 {
		c.log.Info("leadership not handed over", "error", err)
	}
	wg.Wait()
	c.forward.close()
	c.pings.close()
	return c.stopRaft()
}

func (c *Cluster) startRaft(ctx context.Context) error {
	t := c.cfg.Timing
	logger := newHCLog(c.log, c.cfg.Now)
	c.layer = &streamLayer{
		listener: c.cfg.RaftListener, raftID: c.raftID, advertise: c.cfg.RaftAdvertise,
		dial: c.cfg.DialPeer, accept: c.cut.wrap, tls: c.cfg.TLS, clusterID: c.clusterID, meet: c.meet, log: c.log,
	}
	c.layer.start(ctx)
	c.transport = newTransport(c.layer, t.RPC, logger, c.cfg.Monotonic, c.diskHangs)

	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(c.raftID)
	conf.HeartbeatTimeout = t.Heartbeat
	conf.ElectionTimeout = t.Heartbeat
	conf.LeaderLeaseTimeout = t.LeaderLease
	conf.CommitTimeout = t.Commit
	conf.MaxAppendEntries = 16
	conf.BatchApplyCh = true
	conf.SnapshotInterval = 30 * time.Second
	conf.SnapshotThreshold = 1024
	conf.NoSnapshotRestoreOnStart = true
	conf.NoLegacyTelemetry = true
	conf.ShutdownOnRemove = false
	conf.Logger = logger
	// Raft blocks on this channel, and its leader goroutine may in turn wait
	// for raft: room for more changes than happen while it does.
	leads := make(chan bool, 64)
	conf.NotifyCh = leads
	c.leads = leads

	last, err := c.logs.LastIndex()
	if err != nil {
		return err
	}
	conf.TrailingLogs = c.logs.trailing(last, c.trailingBytes)
	if c.entries, err = raft.NewLogCache(128, c.logs); err != nil {
		return err
	}
	votes := &stableWatch{StableStore: c.stores.stable, limit: t.Store, fatal: c.cfg.Fatal}
	r, err := raft.NewRaft(conf, c.cfg.State, c.entries, votes, c.cfg.State.Snapshots(), c.transport)
	if err != nil {
		return errors.Join(fmt.Errorf("start raft: %w", err), c.transport.Close())
	}
	c.raft.Store(r)
	return nil
}

// diskHangs says for how long a write of the log has been hanging, if for too
// long to lead.
func (c *Cluster) diskHangs() error {
	if hanging := c.logs.hanging(); hanging > c.cfg.Timing.Hang {
		return fmt.Errorf("a raft log write has not ended for %s: sends nothing as a leader", hanging.Round(time.Millisecond))
	}
	return nil
}

// drainTimeout bounds the wait for entries under way when the node stops.
const drainTimeout = 3 * time.Second

// stopRaft waits for entries under way first: raft forgets their futures.
func (c *Cluster) stopRaft() error {
	c.applyMu.Lock()
	c.closing = true
	c.applyMu.Unlock()
	drained := make(chan struct{})
	go func() {
		c.applies.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainTimeout):
		c.log.Warn("entries are still under way, stopping anyway")
	}
	down := c.raft.Load().Shutdown()
	// Else raft waits for its calls to peers, up to their time-out.
	c.transport.CloseStreams()
	return errors.Join(c.transport.Close(), down.Error(), c.layer.Close())
}

// apply hands an entry to raft here and waits for its outcome.
func (c *Cluster) apply(entry []byte) outcome {
	r := c.raft.Load()
	c.applyMu.Lock()
	if c.closing || r == nil {
		c.applyMu.Unlock()
		return outcome{kind: outcomeRefused, err: errors.New("the node is stopping")}
	}
	c.applies.Add(1)
	c.applyMu.Unlock()
	defer c.applies.Done()

	future := r.Apply(entry, c.cfg.Timing.RPC)
	if err := future.Error(); err != nil {
		return raftOutcome(err)
	}
	switch response := future.Response().(type) {
	case *fsm.Applied:
		return outcome{kind: outcomeApplied, applied: *response}
	case error:
		return outcome{err: response}
	default:
		return outcome{err: fmt.Errorf("the state answered with %T", response)}
	}
}

// clusterID is "" until this node has met its cluster.
func (c *Cluster) clusterID() string {
	c.identityMu.Lock()
	defer c.identityMu.Unlock()
	return c.identity.ClusterID
}

// meet refuses a foreign cluster id; the first one that the node sees becomes
// its own, for good.
func (c *Cluster) meet(id string) error {
	c.identityMu.Lock()
	defer c.identityMu.Unlock()
	switch c.identity.ClusterID {
	case id:
		return nil
	case "":
	default:
		return fmt.Errorf("cluster id %s is foreign, this node belongs to %s", id, c.identity.ClusterID)
	}
	met := c.identity
	met.ClusterID = id
	if err := met.write(c.cfg.DataDir); err != nil {
		return fmt.Errorf("keep the cluster id: %w", err)
	}
	c.identity = met
	c.log.Info("belongs to a cluster now", "cluster", id)
	return nil
}

// configuration is raft's latest.
func (c *Cluster) configuration() []raft.Server {
	r := c.raft.Load()
	if r == nil {
		return nil
	}
	return r.GetConfiguration().Configuration().Servers
}

// watchNodes passes the state's one notification on to all who wait, and keeps
// the cluster id once the state knows it.
func (c *Cluster) watchNodes(ctx context.Context) {
	for {
		if id := c.cfg.State.ClusterID(); id != "" {
			if err := c.meet(id); err != nil {
				c.cfg.Fatal(err)
			}
		}
		c.nodes.fire()
		kick(c.leaderPoke)
		select {
		case <-c.cfg.State.NodesChanged():
		case <-ctx.Done():
			return
		}
	}
}
