package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// RemoveNode takes a node out of the cluster and returns once the state has
// forgotten it. Unless forced it refuses to leave less than a quorum.
func (c *Cluster) RemoveNode(ctx context.Context, node string, force bool) error {
	return c.askLeader(ctx, &pb.ChangeMembershipRequest{
		Change: pb.ChangeMembershipRequest_CHANGE_REMOVE, Node: node, Force: force,
	})
}

// PromoteNode makes a non-voter that has caught up a voter.
func (c *Cluster) PromoteNode(ctx context.Context, node string) error {
	return c.askLeader(ctx, &pb.ChangeMembershipRequest{Change: pb.ChangeMembershipRequest_CHANGE_PROMOTE, Node: node})
}

// TransferLeadership has whoever leads give leadership to a node, or where node is
// "" to another one, as HandOver does.
func (c *Cluster) TransferLeadership(ctx context.Context, node string) error {
	return c.askLeader(ctx, &pb.ChangeMembershipRequest{Change: pb.ChangeMembershipRequest_CHANGE_TRANSFER, Node: node})
}

// askLeader asks whoever leads until one does as told. All changes are safe to
// repeat, so an unknown outcome is no different from none.
func (c *Cluster) askLeader(ctx context.Context, req *pb.ChangeMembershipRequest) error {
	req.ClusterId = c.clusterID()
	for {
		err := c.askLeaderOnce(ctx, req)
		switch status.Code(err) {
		case codes.Aborted, codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		default:
			return err
		}
		if !sleep(ctx, c.cfg.Timing.Ping) {
			why := "not done in time"
			if !c.Leased() {
				why = "no quorum"
			}
			return status.Errorf(codes.Unavailable, "%s: %s; repeating it is safe", why, status.Convert(err).Message())
		}
	}
}

func (c *Cluster) askLeaderOnce(ctx context.Context, req *pb.ChangeMembershipRequest) error {
	leader := c.leader.Load()
	if leader.self {
		_, err := (&peerServer{c: c}).ChangeMembership(ctx, req)
		return err
	}
	if leader.address == "" {
		return status.Error(codes.Unavailable, errNoLeader.Error())
	}
	return c.callPeer(ctx, leader.at(), func(ctx context.Context, peer pb.PeerServiceClient) error {
		_, err := peer.ChangeMembership(ctx, req)
		return err
	})
}

// ChangeMembership implements pb.PeerServiceServer.
func (p *peerServer) ChangeMembership(ctx context.Context, req *pb.ChangeMembershipRequest) (*pb.ChangeMembershipResponse, error) {
	c := p.c
	if err := c.checkCluster(req.ClusterId, false); err != nil {
		return nil, err
	}
	c.joining.Lock()
	defer c.joining.Unlock()
	l := c.leadership.Load()
	if l == nil {
		return nil, status.Error(codes.Aborted, errNotLeader.Error())
	}
	var err error
	switch req.Change {
	case pb.ChangeMembershipRequest_CHANGE_REMOVE:
		err = c.removeNode(ctx, req.Node, req.Force)
	case pb.ChangeMembershipRequest_CHANGE_PROMOTE:
		err = l.promoteNode(ctx, req.Node)
	case pb.ChangeMembershipRequest_CHANGE_TRANSFER:
		err = c.transferTo(ctx, req.Node)
	default:
		err = status.Errorf(codes.InvalidArgument, "change %d is unknown", req.Change)
	}
	if _, classed := status.FromError(err); err != nil && !classed {
		err = status.Error(codes.Aborted, err.Error())
	}
	if err != nil {
		return nil, err
	}
	return &pb.ChangeMembershipResponse{}, nil
}

// removeNode changes the configuration; the review of the nodes then forgets
// the node, also where this leader ends before it does. Guarded by joining.
func (c *Cluster) removeNode(ctx context.Context, node string, force bool) error {
	servers := c.serversOf(node)
	_, known := c.cfg.State.Node(node)
	if len(servers) == 0 && !known {
		return c.noMember(node)
	}
	if err := c.checkRemoval(ctx, node, force); err != nil {
		return err
	}
	for _, server := range servers {
		if string(server.ID) == c.raftID {
			// A leader that removes itself would go on until the change is
			// committed, and then be silent.
			if err := c.HandOver(ctx); err != nil {
				return err
			}
			return status.Errorf(codes.Aborted, "node %s led and gave leadership away", node)
		}
		if err := c.change(c.raft.Load().RemoveServer(server.ID, 0, c.cfg.Timing.RPC)); err != nil {
			return err
		}
		c.log.Info("removed a node", "removed", node, "raft_id", string(server.ID))
	}
	for {
		changed := c.nodes.wait()
		if _, known := c.cfg.State.Node(node); !known {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// checkRemoval refuses to leave fewer voters that answer than a majority of
// those that would be left. It asks each of them: one that has just died looks
// alive to raft, and with it a removal could not even be taken back. A node that
// was wiped and is being replaced still votes as the data folder that it lost, and
// that one is silent.
func (c *Cluster) checkRemoval(ctx context.Context, node string, force bool) error {
	voters, voted := 0, false
	var alive, silent, replaced []string
	for _, server := range c.configuration() {
		name := nodeOf(string(server.ID))
		switch {
		case server.Suffrage != raft.Voter:
		case name == node:
			voted = true
		case c.answers(ctx, server.ID):
			voters++
			alive = append(alive, name)
		case c.isReplaced(ctx, server):
			voters++
			replaced = append(replaced, name)
		default:
			voters++
			silent = append(silent, name)
		}
	}
	quorum := voters/2 + 1
	switch {
	case !voted:
		return nil
	case voters == 0:
		return status.Errorf(codes.FailedPrecondition, "node %s is the only voter: without it there is no cluster", node)
	case len(alive) < quorum && !force:
		var lacking, remedies []string
		if len(silent) > 0 {
			lacking = append(lacking, strings.Join(silent, ", ")+" doesn't")
			remedies = append(remedies, "start it or remove it first")
		}
		if len(replaced) > 0 {
			names := strings.Join(replaced, ", ")
			lacking = append(lacking, names+" doesn't vote yet in the place of the data folder that it lost")
			remedies = append(remedies, fmt.Sprintf("wait until %s votes, as `holdfast status` shows", names))
		}
		return status.Errorf(codes.FailedPrecondition,
			"without node %s there would be %d voters, of which %d must answer, and %s: no mail would be accepted or delivered; %s, or use --force",
			node, voters, quorum, strings.Join(lacking, ", and "), strings.Join(remedies, ", "))
	}
	return nil
}

// isReplaced reports whether a silent server is a data folder that its node lost, and
// the node is up with the next one.
func (c *Cluster) isReplaced(ctx context.Context, silent raft.Server) bool {
	now, ok := current(c.serversOf(nodeOf(string(silent.ID))))
	return ok && now.ID != silent.ID && c.answers(ctx, now.ID)
}

// answers reports whether a server answers now.
func (c *Cluster) answers(ctx context.Context, id raft.ServerID) bool {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Poll)
	defer cancel()
	_, err := c.ConditionOf(ctx, string(id))
	return err == nil
}

// hears reports whether a server acknowledged this leader within a lease.
func (c *Cluster) hears(id raft.ServerID) bool {
	return string(id) == c.raftID || c.cfg.Now().Sub(c.transport.lastAck(id)) < c.cfg.Timing.Lease
}

// promoteNode spares a non-voter the time for which it must have kept up.
// Guarded by joining.
func (l *leadership) promoteNode(ctx context.Context, node string) error {
	c := l.c
	server, ok := current(c.serversOf(node))
	if !ok {
		return c.noMember(node)
	}
	if server.Suffrage == raft.Voter {
		return nil
	}
	joiner, ok := l.joiners[server.ID]
	if !ok {
		return status.Errorf(codes.FailedPrecondition, "node %s doesn't ask to join: is it running?", node)
	}
	if !c.hasCaughtUp(ctx, placeIn(joiner.request), joiner.request.RaftId) {
		return lags(node)
	}
	return c.makeVoter(joiner.request)
}

// transferTo gives leadership to a node, or to another one where node is "". A
// leader of a moment ago has heard nobody yet, so the node that is named is asked.
// Guarded by joining where an operator asks.
func (c *Cluster) transferTo(ctx context.Context, node string) error {
	switch node {
	case "":
		return c.HandOver(ctx)
	case c.cfg.Node:
		return nil // it leads already
	}
	target, ok := current(c.serversOf(node))
	switch {
	case !ok:
		return c.noMember(node)
	case target.Suffrage != raft.Voter:
		return status.Errorf(codes.FailedPrecondition, "node %s doesn't vote yet: it can't lead", node)
	case !c.answers(ctx, target.ID):
		return status.Errorf(codes.FailedPrecondition, "node %s doesn't answer: it can't lead", node)
	case !c.hasCaughtUp(ctx, c.placeOf(target.ID), string(target.ID)):
		return lags(node)
	}
	return c.giveTo(ctx, target)
}

// HandOver gives leadership away where this node has it: to the first of its
// successors that takes it. It is done here or not at all: whoever leads by the time
// that a call is passed on or repeated has no reason to.
func (c *Cluster) HandOver(ctx context.Context) error {
	if c.raft.Load().State() != raft.Leader {
		return errNotLeader
	}
	successors := c.successors()
	if len(successors) == 0 {
		return status.Error(codes.FailedPrecondition, "no other voter answers that could lead")
	}
	var failed error
	for _, successor := range successors {
		err := c.giveTo(ctx, successor)
		if err == nil || failed != nil && c.raft.Load().State() != raft.Leader {
			return nil // the one before may have it after all, later than raft waits
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// giveTo gives leadership to a server. Nothing comes into the log while raft waits for
// one that is behind: at the first try for as long as an election takes. At the second
// its message to the one who replicates finds the first one still there, and raft takes
// nothing until that server has caught up, be it minutes. So after a try that failed the
// server is asked first.
func (c *Cluster) giveTo(ctx context.Context, server raft.Server) error {
	node, term := nodeOf(string(server.ID)), c.raft.Load().CurrentTerm()
	if c.transfers.hasFailed(term, server.ID) {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Heartbeat)
		defer cancel()
		if !c.hasCaughtUp(ctx, c.placeOf(server.ID), string(server.ID)) {
			return lags(node)
		}
	}
	err := c.raft.Load().LeadershipTransferToServer(server.ID, server.Address).Error()
	c.transfers.note(term, server.ID, err)
	if err != nil {
		return fmt.Errorf("transfer of leadership to node %s: %w", node, err)
	}
	return nil
}

func lags(node string) error {
	return status.Errorf(codes.FailedPrecondition, "node %s hasn't caught up with the log yet: `holdfast status` shows how far it is", node)
}

// transfers are what became of transfers of leadership. They outlast a leader's work: one
// that stops gives leadership away after that.
type transfers struct {
	mu     sync.Mutex // guards what follows
	term   uint64     // that the others are of
	failed map[raft.ServerID]bool
}

// hasFailed reports whether the latest transfer to a server in a term failed.
func (t *transfers) hasFailed(term uint64, id raft.ServerID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.term == term && t.failed[id]
}

func (t *transfers) note(term uint64, id raft.ServerID, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.term != term {
		t.term, t.failed = term, map[raft.ServerID]bool{}
	}
	t.failed[id] = err != nil
}

// successors are the other voters that answer and are in service, in the order of
// the configuration from this node on and round: where each gives leadership to the
// first, all have their turn.
func (c *Cluster) successors() []raft.Server {
	servers := c.configuration()
	self := slices.IndexFunc(servers, func(server raft.Server) bool { return string(server.ID) == c.raftID })
	return slices.DeleteFunc(slices.Concat(servers[self+1:], servers[:max(self, 0)]), func(server raft.Server) bool {
		record, ok := c.cfg.State.Node(nodeOf(string(server.ID)))
		return server.Suffrage != raft.Voter || !c.hears(server.ID) || !ok || !record.Active || record.DrainingSince != 0
	})
}

// current is the entry of the process that a node is now: where it is being
// replaced, that of the earlier one is before it and nobody answers there any more.
func current(servers []raft.Server) (server raft.Server, ok bool) {
	if len(servers) == 0 {
		return raft.Server{}, false
	}
	return servers[len(servers)-1], true
}

// serversOf are a node's entries in the configuration: while it is being
// replaced there are two, the earlier one first.
func (c *Cluster) serversOf(node string) (servers []raft.Server) {
	for _, server := range c.configuration() {
		if nodeOf(string(server.ID)) == node {
			servers = append(servers, server)
		}
	}
	return servers
}

func (c *Cluster) noMember(node string) error {
	var names []string
	for _, member := range c.Members() {
		names = append(names, member.Node)
	}
	return status.Errorf(codes.NotFound, "no node %q in the cluster: its nodes are %s", node, strings.Join(names, ", "))
}
