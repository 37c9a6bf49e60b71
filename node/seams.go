package node

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/admin"
	"holdfast/cluster"
	"holdfast/delivery"
	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// acceptance is the cluster as the front door proposes to it.
type acceptance struct{ *cluster.Cluster }

func (a acceptance) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, error) {
	result, _, err := a.Cluster.Propose(ctx, event, payload)
	return result, err
}

// outcomes is the cluster as the delivery proposes to it.
type outcomes struct{ *cluster.Cluster }

func (o outcomes) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	result, index, err := o.Cluster.Propose(ctx, event, payload)
	if errors.Is(err, cluster.ErrTooLarge) || errors.Is(err, cluster.ErrInvalid) || errors.Is(err, fsm.ErrVersion) {
		// It will never be anything else, however often it is proposed.
		return &pb.EventResult{Code: pb.EventResult_CODE_INVALID, Text: err.Error()}, 0, nil
	}
	return result, index, err
}

// gate opens the front door while the node leaves nothing to doubt: it has a
// lease, everything that was committed before it, and there is room on the
// disks. A stop doesn't close it: the front door itself says goodbye then, and
// lets content under way finish.
type gate struct{ n *Node }

func (g gate) Check() *relay.Reply {
	if !g.n.cluster.Current() {
		return &relay.Reply{Code: 451, Enhanced: "4.3.2", Text: "no quorum right now, try again later"}
	}
	if g.n.disk.space().low() {
		return &relay.Reply{Code: 452, Enhanced: "4.3.1", Text: "short of disk space, try again later"}
	}
	if g.n.cluster.DisksLow() {
		return &relay.Reply{Code: 452, Enhanced: "4.3.1", Text: "the other servers are short of disk space, try again later"}
	}
	return nil
}

// dialer makes this node's connections to destinations.
func (n *Node) dialer() *smtpout.Dialer {
	return &smtpout.Dialer{LocalName: n.cfg.SMTP.Hostname, Resolver: n.cfg.DNS.Resolver(), Now: n.cluster.Now}
}

// trial is a test delivery as an operator asks for it.
func (n *Node) trial(ctx context.Context, t admin.Trial, tell func(*pb.TestDestinationResponse) error) error {
	trial := delivery.Trial{
		Dialer: n.dialer(), Config: t.Config, From: t.From, Recipients: t.Recipients, Send: t.Send,
		Now: n.cluster.Now, Tell: tell,
	}
	return trial.Run(ctx)
}

// closed says why the node would take no mail now, "" where it would.
func (g gate) closed() string {
	if g.n.outOfService() {
		return "out of service"
	}
	if reply := g.Check(); reply != nil {
		return reply.Text
	}
	return ""
}

// leadership is the cluster as the upkeep sees it.
type leadership struct{ n *Node }

func (l leadership) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	return l.n.cluster.Propose(ctx, event, payload)
}

func (l leadership) Leads() bool {
	leader, _ := l.n.cluster.Leader()
	return leader == l.n.cfg.NodeID && l.n.cluster.Leased()
}

func (l leadership) HandOver(ctx context.Context) error { return l.n.cluster.HandOver(ctx) }

// operators is the cluster as the admin services see it.
type operators struct{ n *Node }

func (o operators) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	return o.n.cluster.Propose(ctx, event, payload)
}

func (o operators) WaitEverywhere(ctx context.Context, index uint64) error {
	return o.n.cluster.WaitEverywhere(ctx, index)
}

func (o operators) Barrier(ctx context.Context) error { return o.n.cluster.Barrier(ctx) }

func (o operators) RemoveNode(ctx context.Context, node string, force bool) error {
	return o.n.cluster.RemoveNode(ctx, node, force)
}

func (o operators) PromoteNode(ctx context.Context, node string) error {
	return o.n.cluster.PromoteNode(ctx, node)
}

// TransferLeadership waits until this node knows who leads now.
func (o operators) TransferLeadership(ctx context.Context, node string) (string, error) {
	before := o.Leader()
	if err := o.n.cluster.TransferLeadership(ctx, node); err != nil {
		return "", err
	}
	ticker := time.NewTicker(digestPoll)
	defer ticker.Stop()
	for {
		if leader := o.Leader(); leader == node || node == "" && leader != "" && leader != before {
			return leader, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", status.Error(codes.Unavailable, "leadership was given away, but who leads now isn't known yet: `holdfast status` shows it")
		}
	}
}

func (o operators) JoinVia(ctx context.Context, addresses []string) (bool, string, error) {
	return o.n.cluster.JoinVia(ctx, addresses)
}

func (o operators) Sessions(ctx context.Context, node string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	condition, err := o.n.cluster.Condition(ctx, node)
	return condition.Sessions, err
}

func (o operators) LeadsAlone() bool { return o.n.cluster.LeadsAlone() }

func (o operators) Leased() bool { return o.n.cluster.Leased() }

func (o operators) Leader() string {
	leader, _ := o.n.cluster.Leader()
	return leader
}

func (o operators) Health() admin.Health {
	disk := o.n.disk.space()
	return admin.Health{
		DiskFree: disk.free, DiskReserve: disk.reserve, DisksLow: o.n.cluster.DisksLow(),
		ClockOffset: o.n.cluster.ClockOffset(),
	}
}

// memberTimeout is how long a node that hangs may hold up a status.
const memberTimeout = time.Second

// Members asks every server of the configuration how far it is; one that doesn't
// answer isn't alive. While a node is being replaced there are two of its name.
func (o operators) Members(ctx context.Context) []admin.Member {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	servers := o.n.cluster.Members()
	members := make([]admin.Member, len(servers))
	done := make(chan struct{})
	for i, server := range servers {
		go func() {
			condition, err := o.n.cluster.ConditionOf(ctx, server.RaftID)
			members[i] = admin.Member{
				Name: server.Node, Voter: server.Voter,
				// The state doesn't know a node yet that is catching up.
				Alive:        err == nil || !server.Voter && time.Since(server.LastContact) < memberTimeout,
				AppliedIndex: condition.AppliedIndex, NoLease: condition.NoLease,
				StuckBulks: condition.StuckBulks, Mismatches: condition.Mismatches, Certificates: condition.Certificates,
			}
			done <- struct{}{}
		}()
	}
	for range servers {
		<-done
	}
	return members
}

// digestPoll is how often a node is asked again that hasn't applied the mark yet.
const digestPoll = 50 * time.Millisecond

func (o operators) Digests(ctx context.Context, node string, nonce []byte) (*pb.DigestResponse, error) {
	ticker := time.NewTicker(digestPoll)
	defer ticker.Stop()
	for {
		digests, err := o.n.cluster.Digests(ctx, nonce, node)
		if status.Code(err) != codes.NotFound {
			return digests, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (o operators) CheckRows(ctx context.Context, node string, tell func(*pb.CheckRowsResponse) error) error {
	return o.n.cluster.CheckRows(ctx, node, tell)
}

func (o operators) Announce(found []*pb.StateMismatch) { o.n.cluster.Announce(found) }
