package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// leaderInfo is where entries and pings go.
type leaderInfo struct {
	raftID raft.ServerID // "" while there is no leader
	self   bool
	// address is the leader's admin address, "" where it is self or unknown.
	address string
}

func (l *leaderInfo) known() bool { return l.self || l.raftID != "" }

// at is where calls to another node that leads go.
func (l *leaderInfo) at() peerAt { return peerAt{nodeOf(string(l.raftID)), l.address} }

func (l *leaderInfo) reachable() bool { return l.self || l.address != "" }

// watchLeader keeps c.leader current.
func (c *Cluster) watchLeader(ctx context.Context) {
	r := c.raft.Load()
	seen := make(chan raft.Observation, 8)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)
	// An observation may be dropped, and raft reports no loss of leadership.
	ticker := time.NewTicker(c.cfg.Timing.Ping)
	defer ticker.Stop()
	for {
		if now := c.findLeader(); now != *c.leader.Load() {
			c.leader.Store(&now)
			c.forward.retarget(now)
			c.leaderMoved.fire()
		}
		select {
		case <-seen:
		case <-c.leaderPoke:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *Cluster) findLeader() leaderInfo {
	r := c.raft.Load()
	_, id := r.LeaderWithID()
	info := leaderInfo{raftID: id, self: r.State() == raft.Leader}
	if info.self || id == "" {
		return info
	}
	if record, ok := c.cfg.State.Node(nodeOf(string(id))); ok {
		info.address = record.AdminAddress
	}
	return info
}

// awaitLeader waits until entries have somewhere to go.
func (c *Cluster) awaitLeader(ctx context.Context) bool {
	for {
		moved := c.leaderMoved.wait()
		if c.leader.Load().reachable() {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// Leader names the leader and its admin address, "" where unknown.
func (c *Cluster) Leader() (node, adminAddress string) {
	info := c.leader.Load()
	switch {
	case info.self:
		return c.cfg.Node, c.cfg.AdminAdvertise
	case info.raftID == "":
		return "", ""
	}
	return nodeOf(string(info.raftID)), info.address
}

// LeadsAlone reports whether this node leads and no other one in service could.
func (c *Cluster) LeadsAlone() bool { return c.leader.Load().self && len(c.successors()) == 0 }

// NodesChanged returns a channel that is closed at the next change of a node's
// record. Take it before looking.
func (c *Cluster) NodesChanged() <-chan struct{} { return c.nodes.wait() }

// Member is a server of raft's configuration.
type Member struct {
	Node    string
	RaftID  string
	Address string // raft's host:port
	Voter   bool
	Leader  bool
	// LastContact is when the leader last heard of it, as far as this node
	// knows: all of them on the leader, else only the leader itself.
	LastContact time.Time
}

// Members lists raft's configuration, sorted by node.
func (c *Cluster) Members() []Member {
	r := c.raft.Load()
	if r == nil {
		return nil
	}
	leader := c.leader.Load()
	var members []Member
	for _, server := range c.configuration() {
		m := Member{
			Node: nodeOf(string(server.ID)), RaftID: string(server.ID),
			Voter: server.Suffrage == raft.Voter, Leader: server.ID == leader.raftID,
		}
		_, m.Address, _ = splitRaftAddress(string(server.Address))
		switch {
		case m.RaftID == c.raftID:
			m.LastContact = c.cfg.Now()
		case leader.self:
			m.LastContact = c.transport.lastAck(server.ID)
		case m.Leader:
			m.LastContact = r.LastContact()
		}
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.RaftID, b.RaftID))
	})
	return members
}
