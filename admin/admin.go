package admin

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	"holdfast/pki"
	pb "holdfast/proto/holdfast/v1"
)

// Cluster is what the services need besides the state.
type Cluster interface {
	// Propose brings one event into the log and returns what applying it came
	// to, and at which index. It fills in the event's header. An error means
	// that the outcome isn't known, or that there is no quorum.
	Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error)
	// WaitEverywhere returns once every leased node has applied the index.
	WaitEverywhere(ctx context.Context, index uint64) error
	// Barrier returns once this node's state has everything that was committed
	// before the call, by whichever node. It asks the leader once.
	Barrier(ctx context.Context) error
	// Leased reports whether this node has a quorum behind it.
	Leased() bool
	// Leader is the leader's name, "" where none is known.
	Leader() string
	// Members are the nodes of the raft configuration.
	Members(ctx context.Context) []Member
	// Health is this node's own.
	Health() Health
	// Digests asks a node for the digests that it kept at VerifyMarked.
	Digests(ctx context.Context, node string, nonce []byte) (*pb.DigestResponse, error)
	// CheckRows has a node read all its rows, and hands on what it tells; the
	// node then has the result.
	CheckRows(ctx context.Context, node string, tell func(*pb.CheckRowsResponse) error) error
	// Announce makes known to all nodes what a verification found; nil is nothing.
	Announce([]*pb.StateMismatch)
}

// Member is a node as the cluster sees it.
type Member struct {
	Name         string
	Voter        bool
	Alive        bool
	AppliedIndex uint64 // 0 where unknown
	NoLease      string // why it may not act now, "" where it may or it isn't known
	// StuckBulks are the bulk operations that it can't read on though it leads; "" are all.
	StuckBulks []string
	// Mismatches is what the member says of states that differ.
	Mismatches []*pb.StateMismatch
	// Certificates are until when those of the member are good, and the CAs that
	// it trusts.
	Certificates []pki.Expiry
}

// Config is what the services work on.
type Config struct {
	Node    string // this node's name
	State   *fsm.State
	Cluster Cluster
	// Trial makes a test delivery and hands on each step of it; nil refuses.
	Trial func(context.Context, Trial, func(*pb.TestDestinationResponse) error) error
	// TakesNothing is what RCPT would be answered now whatever the address, nil where
	// that depends on it. It is asked before the state is read, as RCPT does; nil is never.
	TakesNothing func() *pb.CheckRecipientResponse
	// CheckRecipient says to who asks, by name, what RCPT would be answered now to an
	// address of a domain, or asks the destination whatever is known; nil refuses.
	CheckRecipient func(ctx context.Context, who string, domain *pb.DomainConfig, address string, anew bool) *pb.CheckRecipientResponse
	// Flow is what the node remembers of the queue's growth; nil warns of none.
	Flow *Flow
	// Membership changes the cluster's nodes.
	Membership Membership
	// Drills has nodes suffer faults.
	Drills Drills
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
	// Patience is how long a change waits for the cluster; 0 is 10 s. A caller's
	// earlier deadline goes first.
	Patience time.Duration
}

// Register adds the services, the standard health service and reflection to a
// server that has the interceptors of an Access, and behind them those of Misses:
// without the first every caller is nobody. The health service is the caller's to shut down ahead of the server.
func Register(server *grpc.Server, cfg Config) *health.Server {
	n := newNode(cfg)
	pb.RegisterQueueServiceServer(server, &queueService{node: n})
	pb.RegisterLogServiceServer(server, &logService{node: n})
	pb.RegisterDomainServiceServer(server, &domainService{node: n})
	pb.RegisterDestinationServiceServer(server, &destinationService{node: n})
	pb.RegisterPolicyServiceServer(server, &policyService{node: n})
	pb.RegisterRecipientServiceServer(server, &recipientService{node: n})
	pb.RegisterClusterServiceServer(server, &clusterService{node: n})
	pb.RegisterSettingsServiceServer(server, &settingsService{node: n})
	pb.RegisterAccessServiceServer(server, &accessService{node: n})
	health := health.NewServer()
	healthpb.RegisterHealthServer(server, health)
	reflection.Register(server)
	return health
}

// node is what all services share.
type node struct {
	Config
}

func newNode(cfg Config) *node {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	return &node{Config: cfg}
}

func (n *node) stale() bool { return !n.Cluster.Leased() }

// propose brings an event into the log. A result other than OK is an error, with
// the index all the same; subject names what the event is about, for the operator.
func (n *node) propose(ctx context.Context, event *pb.Event, subject string) (uint64, error) {
	_, index, err := n.proposeResult(ctx, event, subject)
	return index, err
}

// withoutQuorum is how long a change waits for a quorum where the node knows of
// none: long enough for an election, and for a node that has just started.
const withoutQuorum = 5 * time.Second

// patience is how long a change may take.
func (n *node) patience() time.Duration {
	if !n.Cluster.Leased() {
		return min(n.Patience, withoutQuorum)
	}
	return n.Patience
}

// proposeResult is propose for a caller who wants to know what the event came to.
func (n *node) proposeResult(ctx context.Context, event *pb.Event, subject string) (*pb.EventResult, uint64, error) {
	return n.proposeContent(ctx, event, nil, subject)
}

// proposeContent is proposeResult for an event with a payload.
func (n *node) proposeContent(ctx context.Context, event *pb.Event, payload []byte, subject string) (*pb.EventResult, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, n.patience())
	defer cancel()
	kind := kindOf(event) // the event is the cluster's from here on
	event.By = operatorOf(ctx)
	requestOf(ctx).proposed.Store(true)
	result, index, err := n.Cluster.Propose(ctx, event, payload)
	if err != nil {
		return nil, 0, proposeError(err)
	}
	if err := resultError(result, subject); err != nil {
		return nil, index, err
	}
	n.Logger.Info("administration", "event", kind, "subject", subject, "by", operatorOf(ctx), "index", index, "request", requestOf(ctx).id)
	return result, index, nil
}

// configure proposes a change and returns once it is in effect on every leased
// node, this one included.
func (n *node) configure(ctx context.Context, event *pb.Event, subject string) error {
	index, err := n.propose(ctx, event, subject)
	if err != nil {
		return err
	}
	return n.inEffect(ctx, index)
}

// configureOnce is configure for a change whose answer can't be had again: that it is
// in the log and not in effect everywhere yet is told beside that answer.
func (n *node) configureOnce(ctx context.Context, event *pb.Event, subject string) (late string, err error) {
	index, err := n.propose(ctx, event, subject)
	if err != nil {
		return "", err
	}
	if late = unconfirmed(n.inEffect(ctx, index)); late != "" {
		n.Logger.Warn("administration: not every node has confirmed a change", "subject", subject, "reason", late, "request", requestOf(ctx).id)
	}
	return late, nil
}

// inEffect returns once every leased node is at the index, this one included.
func (n *node) inEffect(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, n.Patience)
	defer cancel()
	if err := n.Cluster.WaitEverywhere(ctx, index); err != nil {
		return notEverywhere(index, err)
	}
	return n.applied(ctx, index)
}

// applied returns once this node's own state is at the index.
func (n *node) applied(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, n.Patience)
	defer cancel()
	if err := n.State.WaitApplied(ctx, index); err != nil {
		return notHere(index, err)
	}
	return nil
}

// overtaken returns once this node's own state is at the index of an event that was
// refused because another change came first: from there the caller sees that one.
func (n *node) overtaken(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, n.Patience)
	defer cancel()
	if err := n.State.WaitApplied(ctx, index); err != nil {
		return status.Errorf(codes.Unavailable, "nothing was changed: another change came first, and this node is behind, it hasn't come to that one yet: %v; repeating it is safe", err)
	}
	return nil
}

// kindOf names an event's kind as the proto does.
func kindOf(event *pb.Event) string {
	m := event.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("kind"))
	if kind == nil {
		return ""
	}
	return string(kind.Message().Name())
}
