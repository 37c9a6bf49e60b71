package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// JoinVia makes this node join the cluster that the addresses know, and returns
// once it votes, or with what it waits for when ctx ends. It is for a node
// without join addresses of its own, or with some that are of no use, and safe to
// repeat: of a node that voted before the text says so. Until the node is a member a restart forgets the
// addresses.
func (c *Cluster) JoinVia(ctx context.Context, addresses []string) (voter bool, waitsFor string, err error) {
	if id := c.clusterID(); id != "" && len(c.configuration()) == 1 && c.isVoterHere() {
		return false, "", status.Errorf(codes.FailedPrecondition, "node %s is a cluster of its own (%s): empty %s first to let it join another one", c.cfg.Node, id, c.cfg.DataDir)
	}
	if c.clusterID() != "" && c.isVoterHere() {
		if err := c.checkMember(ctx, addresses); err != nil {
			return false, "", err
		}
		return true, fmt.Sprintf("node %s is a member already, and votes", c.cfg.Node), nil
	}
	c.inviteMu.Lock()
	c.invited = slices.Clone(addresses)
	c.inviteMu.Unlock()
	for {
		if c.isVoterHere() {
			return true, "", nil
		}
		if !sleep(ctx, c.cfg.Timing.Verify) {
			c.inviteMu.Lock()
			defer c.inviteMu.Unlock()
			return false, c.step, nil
		}
	}
}

// checkMember refuses to let a member join a cluster that isn't known to be its own.
// It asks all the addresses at once, so that one where nobody is doesn't use up the
// time of the others, and as a node of no cluster would: who belongs to another one
// then says to which. Only there is an empty folder any help.
func (c *Cluster) checkMember(ctx context.Context, addresses []string) error {
	found, failures := c.helloAll(ctx, addresses, "")
	var others []string
	foreign, again := false, false
	for i, answer := range found {
		var other string
		switch {
		case failures[i] != nil:
			again, other = true, status.Convert(failures[i]).Message()
		case answer.ClusterId == c.clusterID():
			return nil
		case answer.ClusterId == "":
			other = fmt.Sprintf("node %s belongs to no cluster", answer.Node)
		case answer.ClusterId == clusterUnnamed:
			again, other = true, fmt.Sprintf("node %s doesn't know its cluster yet", answer.Node)
		default:
			foreign, other = true, fmt.Sprintf("node %s belongs to cluster %s", answer.Node, answer.ClusterId)
		}
		others = append(others, addresses[i]+": "+other)
	}
	member := fmt.Sprintf("node %s is a member of cluster %s, and none of its nodes answers there (%s)", c.cfg.Node, c.clusterID(), strings.Join(others, "; "))
	switch {
	case foreign:
		return status.Errorf(codes.FailedPrecondition, "%s: empty %s first to let it join another one", member, c.cfg.DataDir)
	case again:
		return status.Errorf(codes.Unavailable, "%s: try again once they do", member)
	}
	return status.Error(codes.FailedPrecondition, member)
}

func (c *Cluster) invitation() []string {
	c.inviteMu.Lock()
	defer c.inviteMu.Unlock()
	return slices.Clone(c.invited)
}

func (c *Cluster) setStep(step string) {
	c.inviteMu.Lock()
	defer c.inviteMu.Unlock()
	c.step = step
}

// moveSelf brings the configuration up to the address of a leader that was
// started at another one: there is nobody else whom it could ask.
func (c *Cluster) moveSelf() string {
	c.joining.Lock()
	defer c.joining.Unlock()
	address := raft.ServerAddress(raftAddress(c.raftID, c.cfg.RaftAdvertise))
	if err := c.change(c.raft.Load().AddVoter(raft.ServerID(c.raftID), address, 0, c.cfg.Timing.RPC)); err != nil {
		return err.Error()
	}
	return "has a new address in the cluster: " + c.cfg.RaftAdvertise
}
