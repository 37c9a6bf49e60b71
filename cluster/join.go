package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// Join implements pb.PeerServiceServer: the leader takes a node in, one step at
// a time. A step that was taken is found in the configuration by the next
// call, so the caller just asks again.
func (p *peerServer) Join(ctx context.Context, req *pb.JoinRequest) (*pb.JoinResponse, error) {
	c := p.c
	if err := c.checkName(ctx, req.Node); err != nil {
		return nil, err
	}
	if err := c.checkCluster(req.ClusterId, true); err != nil {
		return nil, err
	}
	if req.Node == "" || nodeOf(req.RaftId) != req.Node || req.RaftAddress == "" || req.AdminAddress == "" {
		return nil, status.Errorf(codes.InvalidArgument, "node %q, raft id %q, raft address %q, admin address %q: incomplete or not matching", req.Node, req.RaftId, req.RaftAddress, req.AdminAddress)
	}
	// Two changes at once would each see the configuration without the other.
	c.joining.Lock()
	defer c.joining.Unlock()
	l := c.leadership.Load()
	if l == nil || c.cfg.State.ClusterID() == "" {
		return nil, status.Error(codes.FailedPrecondition, errNotLeader.Error())
	}
	if err := c.cfg.State.CheckReader(req.Node, req); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	if c.wasRemoved(ctx, req) {
		// The node ends by this answer: a leader that was stopped for a while, and has
		// a successor since, knows nothing of whom that one took in.
		if _, err := l.verify(ctx); err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
		return &pb.JoinResponse{ClusterId: c.clusterID(), Removed: true}, nil
	}
	voter, err := l.takeIn(ctx, req)
	if _, classed := status.FromError(err); err != nil && !classed {
		err = status.Error(codes.Unavailable, err.Error())
	}
	if err != nil {
		return nil, err
	}
	return &pb.JoinResponse{ClusterId: c.clusterID(), Voter: voter}, nil
}

// takeIn reports whether the node is a voter now.
func (l *leadership) takeIn(ctx context.Context, req *pb.JoinRequest) (bool, error) {
	c := l.c
	r := c.raft.Load()
	id := raft.ServerID(req.RaftId)
	address := raft.ServerAddress(raftAddress(req.RaftId, req.RaftAddress))
	self, predecessors := c.findServers(req)
	for _, predecessor := range predecessors {
		if err := c.checkGone(req.Node, predecessor); err != nil {
			return false, err
		}
	}
	switch {
	case self == nil:
		if err := c.checkReachable(ctx, req); err != nil {
			return false, err
		}
		c.log.Info("takes a node in", "joins", req.Node, "raft_id", req.RaftId)
		return false, c.change(r.AddNonvoter(id, address, 0, c.cfg.Timing.RPC))
	case self.Address != address:
		return self.Suffrage == raft.Voter, c.move(ctx, req, self.Suffrage)
	case self.Suffrage == raft.Voter:
		return true, nil
	}
	if !l.keepsUp(ctx, req) {
		return false, nil
	}
	return true, c.makeVoter(req)
}

// move brings the configuration up to the address where a node is now.
func (c *Cluster) move(ctx context.Context, req *pb.JoinRequest, suffrage raft.ServerSuffrage) error {
	if err := c.checkMoved(ctx, req); err != nil {
		return err
	}
	c.log.Info("a node has a new address", "moves", req.Node, "to", req.RaftAddress)
	r, id, address := c.raft.Load(), raft.ServerID(req.RaftId), raft.ServerAddress(raftAddress(req.RaftId, req.RaftAddress))
	if suffrage == raft.Voter {
		return c.change(r.AddVoter(id, address, 0, c.cfg.Timing.RPC))
	}
	return c.change(r.AddNonvoter(id, address, 0, c.cfg.Timing.RPC))
}

// keepsUp reports whether a non-voter has had all that was committed each time
// that it asked, for long enough to be relied on. Guarded by joining.
func (l *leadership) keepsUp(ctx context.Context, req *pb.JoinRequest) bool {
	id := raft.ServerID(req.RaftId)
	l.setPlace(id, placeIn(req))
	caughtUp, now := l.c.hasCaughtUp(ctx, placeIn(req), req.RaftId), l.c.cfg.Monotonic()
	j, ok := l.joiners[id]
	if !ok || !caughtUp {
		j.since = now
	}
	j.request = req
	l.joiners[id] = j
	return caughtUp && now-j.since >= l.c.cfg.Timing.Stable
}

// placeIn is where a node says that it is, as it asks to join.
func placeIn(req *pb.JoinRequest) peerAt { return peerAt{req.Node, req.AdminAddress} }

func (l *leadership) setPlace(id raft.ServerID, at peerAt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places[id] = at
}

func (l *leadership) place(id raft.ServerID) (at peerAt, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok = l.places[id]
	return at, ok
}

// joiner is a non-voter that has asked this leader to take it in.
type joiner struct {
	request *pb.JoinRequest
	since   time.Duration // that long it has kept up with the log
}

// makeVoter lets a non-voter vote, in the place of the data folder that it lost
// where there was one. Guarded by joining.
func (c *Cluster) makeVoter(req *pb.JoinRequest) error {
	r := c.raft.Load()
	_, predecessors := c.findServers(req)
	for _, predecessor := range predecessors {
		// Before the new one votes: else there were one more voter, and it dead.
		if err := c.change(r.RemoveServer(predecessor.ID, 0, c.cfg.Timing.RPC)); err != nil {
			return err
		}
		c.log.Info("removed the lost data folder of a node", "joins", req.Node, "removed", string(predecessor.ID))
	}
	id, address := raft.ServerID(req.RaftId), raft.ServerAddress(raftAddress(req.RaftId, req.RaftAddress))
	return c.change(r.AddVoter(id, address, 0, c.cfg.Timing.RPC))
}

func (c *Cluster) change(future raft.IndexFuture) error {
	if err := future.Error(); err != nil {
		return errors.Join(errors.New("change of the configuration"), err)
	}
	return nil
}

// findServers looks for the node in the configuration under the raft id that
// it asks for, and under those that it had before it lost its data.
func (c *Cluster) findServers(req *pb.JoinRequest) (self *raft.Server, predecessors []raft.Server) {
	for _, server := range c.configuration() {
		switch {
		case string(server.ID) == req.RaftId:
			self = &server
		case nodeOf(string(server.ID)) == req.Node:
			predecessors = append(predecessors, server)
		}
	}
	return self, predecessors
}

// checkGone refuses to replace a data folder that is in use.
func (c *Cluster) checkGone(node string, predecessor raft.Server) error {
	if record, ok := c.cfg.State.Node(node); ok && record.Active && record.RaftId == string(predecessor.ID) {
		return status.Errorf(codes.AlreadyExists, "node %s is up already, with another data folder (raft id %s): stop it or choose another node_id", node, predecessor.ID)
	}
	return nil
}

// checkMoved refuses a new address to a node that is up where it was: then a copy of
// its data folder asks, and both would vote under one raft id, each with votes of its
// own. A node that has really moved is declared down soon, or answers at its earlier
// admin address itself. One that is there without being up, as where its clock is
// wrong, votes all the same.
func (c *Cluster) checkMoved(ctx context.Context, req *pb.JoinRequest) error {
	record, ok := c.cfg.State.Node(req.Node)
	if !ok || record.RaftId != req.RaftId {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Poll)
	defer cancel()
	stays := record.Active
	if answer, err := c.helloTo(ctx, peerAt{req.Node, record.AdminAddress}); err == nil && answer.RaftId == req.RaftId {
		stays = answer.RaftAddress != req.RaftAddress
	}
	if !stays {
		return nil
	}
	return status.Errorf(codes.AlreadyExists,
		"node %s is up already, at %s, with the same data folder (raft id %s): if it has moved, stop it there, and its new address counts within seconds; another node needs an empty data folder and a node_id of its own",
		req.Node, record.AdminAddress, req.RaftId)
}

// checkReachable wants the node to answer where it says it is.
func (c *Cluster) checkReachable(ctx context.Context, req *pb.JoinRequest) error {
	answer, err := c.helloTo(ctx, peerAt{req.Node, req.AdminAddress})
	if err != nil {
		return status.Errorf(codes.FailedPrecondition, "node %s can't be reached at its admin address %s: %v", req.Node, req.AdminAddress, err)
	}
	if answer.RaftId != req.RaftId {
		return status.Errorf(codes.FailedPrecondition, "at the admin address %s of node %s answers %s", req.AdminAddress, req.Node, answer.RaftId)
	}
	return nil
}

// wasRemoved reports whether a node has data of this cluster but is no member,
// as far as that is committed: it may hold votes of its time, and must not come
// in again with them. After a crash its log may be all that it has.
func (c *Cluster) wasRemoved(ctx context.Context, req *pb.JoinRequest) bool {
	isSelf := func(server raft.Server) bool { return string(server.ID) == req.RaftId }
	committed, index := c.cfg.State.Configuration()
	if index == 0 || slices.ContainsFunc(committed.Servers, isSelf) || slices.ContainsFunc(c.configuration(), isSelf) {
		return false
	}
	answer, err := c.helloTo(ctx, peerAt{req.Node, req.AdminAddress})
	return err == nil && answer.RaftId == req.RaftId && answer.HasData
}

// hasCaughtUp reports whether the node has applied what is committed now. It
// asks for as long as a poll lasts.
func (c *Cluster) hasCaughtUp(ctx context.Context, at peerAt, raftID string) bool {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Poll)
	defer cancel()
	target, err := c.visibleCommit()
	if err != nil {
		c.log.Error("a node can't be compared with the log", "compared", at.node, "error", err)
		return false
	}
	for {
		answer, err := c.helloTo(ctx, at)
		if err == nil && answer.RaftId == raftID && answer.AppliedIndex >= target {
			return true
		}
		if !sleep(ctx, c.cfg.Timing.Verify) {
			return false
		}
	}
}
