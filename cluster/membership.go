package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// takePart makes this node a voter at its present address: of the cluster that
// the nodes it can ask know, or of a new one if none of them knows any. It
// goes on looking for as long as the node runs.
func (c *Cluster) takePart(ctx context.Context) {
	var entered sync.Once
	said := ""
	say := func(what string) {
		if what != said && what != "" {
			c.log.Info(what)
		}
		said = what
		c.setStep(what)
	}
	for {
		here := c.isVoterHere()
		if here {
			entered.Do(func() { close(c.entered) })
		}
		switch {
		case !here:
			say(c.enter(ctx))
		case !c.leader.Load().known() && c.clusterID() != "":
			// Its removal may have passed it by: then no leader calls it any more.
			c.enter(ctx)
		}
		if !sleep(ctx, c.cfg.Timing.Poll) {
			return
		}
	}
}

// isVoterHere reports whether the configuration has this node as a voter at
// the address where it listens.
func (c *Cluster) isVoterHere() bool {
	self := raft.Server{
		Suffrage: raft.Voter, ID: raft.ServerID(c.raftID),
		Address: raft.ServerAddress(raftAddress(c.raftID, c.cfg.RaftAdvertise)),
	}
	return slices.Contains(c.configuration(), self)
}

// enter takes one step and says what it waits for, "" for nothing new.
func (c *Cluster) enter(ctx context.Context) string {
	if c.leader.Load().self {
		return c.moveSelf()
	}
	addresses := c.askable()
	if len(addresses) == 0 && !c.hasData() {
		switch c.cfg.BootstrapExpect {
		case 0:
			return "has no data and no join address: waits for `holdfast cluster join`"
		case 1:
			return c.bootstrap(nil)
		}
	}
	answers, failure := c.hello(ctx, addresses)
	if said := c.joinBy(ctx, answers); said != "" {
		return said
	}
	if c.hasData() {
		return failure
	}
	return c.found(answers, failure)
}

// askable is whom to ask for a cluster: first those whom an operator named, then the
// join addresses and the nodes that the state knows.
func (c *Cluster) askable() []string {
	others := slices.Clone(c.cfg.Join)
	for _, record := range c.cfg.State.Nodes() {
		others = append(others, record.AdminAddress)
	}
	slices.Sort(others)
	var addresses []string
	for _, address := range append(c.invitation(), others...) {
		if address != "" && address != c.cfg.AdminAdvertise && !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// hello asks them all at once who they are. It leaves out this node's own
// answer, and says why if any of the others didn't.
func (c *Cluster) hello(ctx context.Context, addresses []string) (answers []*pb.HelloResponse, failure string) {
	found, failures := c.helloAll(ctx, addresses, c.clusterID())
	for i, answer := range found {
		if failures[i] != nil {
			failure = fmt.Sprintf("join address %s: %v", addresses[i], failures[i])
		} else if answer.RaftId != c.raftID {
			answers = append(answers, answer)
		}
	}
	return answers, failure
}

// helloAll asks them all at once, for as long as a poll lasts: of each there is an
// answer or a failure.
func (c *Cluster) helloAll(ctx context.Context, addresses []string, as string) (found []*pb.HelloResponse, failures []error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Poll)
	defer cancel()
	found, failures = make([]*pb.HelloResponse, len(addresses)), make([]error, len(addresses))
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() { found[i], failures[i] = c.helloAs(ctx, peerAt{address: address}, as) })
	}
	wg.Wait()
	return found, failures
}

func (c *Cluster) helloTo(ctx context.Context, to peerAt) (*pb.HelloResponse, error) {
	return c.helloAs(ctx, to, c.clusterID())
}

// helloAs asks a node who it is. A node of another cluster than as refuses; to "" each
// answers.
func (c *Cluster) helloAs(ctx context.Context, to peerAt, as string) (answer *pb.HelloResponse, err error) {
	var at peer.Peer
	err = c.callPeer(ctx, to, func(ctx context.Context, client pb.PeerServiceClient) (err error) {
		answer, err = client.Hello(ctx, &pb.HelloRequest{ClusterId: as, Node: c.cfg.Node}, grpc.Peer(&at))
		return err
	})
	if err != nil {
		return nil, err
	}
	if nodeOf(answer.RaftId) != answer.Node {
		return nil, fmt.Errorf("node %s answers with the raft id %s", answer.Node, answer.RaftId)
	}
	if err := c.checkName(peer.NewContext(ctx, &at), answer.Node); err != nil {
		return nil, err
	}
	if as != "" && answer.ClusterId != as && answer.ClusterId != "" && answer.ClusterId != clusterUnnamed {
		return nil, fmt.Errorf("cluster id %s is foreign, this node belongs to %s", answer.ClusterId, as)
	}
	return answer, nil
}

// found makes a new cluster if all its first members are here, none of them
// has data, and this node is the one to do it.
func (c *Cluster) found(others []*pb.HelloResponse, failure string) string {
	expect := c.cfg.BootstrapExpect
	if expect == 0 {
		return "waits for a join address that knows a cluster; " + failure
	}
	if !slices.Contains(c.cfg.Join, c.cfg.AdminAdvertise) && expect > 1 {
		return fmt.Sprintf("waits for a cluster to join: it isn't one of the first members, since join doesn't list %s", c.cfg.AdminAdvertise)
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(c.cfg.Join)))); n != expect && expect > 1 {
		return fmt.Sprintf("makes no cluster: join lists %d members, bootstrap_expect is %d", n, expect)
	}
	if failure != "" || len(others) != expect-1 {
		return fmt.Sprintf("waits for all %d first members; %s", expect, failure)
	}
	names := []string{c.cfg.Node}
	for _, other := range others {
		if other.ClusterId != "" || other.AppliedIndex > 0 {
			return fmt.Sprintf("node %s has data: waits for its cluster", other.Node)
		}
		names = append(names, other.Node)
	}
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != expect {
		return fmt.Sprintf("makes no cluster: two members have the same node_id: %v", names)
	}
	if names[0] != c.cfg.Node {
		return fmt.Sprintf("waits for node %s to make the cluster", names[0])
	}
	return c.bootstrap(others)
}

func (c *Cluster) bootstrap(others []*pb.HelloResponse) string {
	server := func(id, address string) raft.Server {
		return raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(raftAddress(id, address))}
	}
	configuration := raft.Configuration{Servers: []raft.Server{server(c.raftID, c.cfg.RaftAdvertise)}}
	for _, other := range others {
		configuration.Servers = append(configuration.Servers, server(other.RaftId, other.RaftAddress))
	}
	if err := c.raft.Load().BootstrapCluster(configuration).Error(); err != nil {
		return fmt.Sprintf("couldn't make the cluster: %v", err)
	}
	return fmt.Sprintf("makes a new cluster of %d", len(configuration.Servers))
}

// joinBy asks the leaders that the answers name to take this node in, one after the
// other until one does: a node whose raft port is blocked still answers here, and knows
// no leader or an earlier one. It is "" where no answer knows a cluster. The first that
// does says which cluster it is; of answers for another one it tells.
func (c *Cluster) joinBy(ctx context.Context, answers []*pb.HelloResponse) string {
	cluster, leaderless, first := "", "", ""
	var asked, refusals, foreign []string
	for _, answer := range answers {
		if answer.ClusterId == "" || answer.ClusterId == clusterUnnamed {
			continue
		}
		cluster, first = cmp.Or(cluster, answer.ClusterId), cmp.Or(first, answer.Node)
		switch {
		case answer.ClusterId != cluster:
			foreign = append(foreign, fmt.Sprintf("node %s of %s", answer.Node, answer.ClusterId))
			continue
		case slices.Contains(asked, answer.LeaderAddress):
			continue
		case answer.LeaderAddress == "":
			leaderless = cmp.Or(leaderless, fmt.Sprintf("node %s knows the cluster but no leader", answer.Node))
			continue
		}
		asked = append(asked, answer.LeaderAddress)
		step, err := c.join(ctx, answer)
		if err == nil {
			return step
		}
		refusals = append(refusals, fmt.Sprintf("couldn't join yet: %v", err))
	}
	step := cmp.Or(strings.Join(refusals, "; "), leaderless)
	if len(foreign) > 0 {
		step += fmt.Sprintf("; the addresses are of several clusters: node %s of %s, %s; `holdfast cluster join` at this node, with addresses of the one that is meant, asks those first",
			first, cluster, strings.Join(foreign, ", "))
	}
	return step
}

// join asks the leader that an answer names to take this node in.
func (c *Cluster) join(ctx context.Context, known *pb.HelloResponse) (step string, err error) {
	if known.StateVersion > fsm.Version {
		err := fmt.Errorf("the state of the cluster is of version %d, this program knows up to %d: start the newer program", known.StateVersion, fsm.Version)
		c.cfg.Fatal(err)
		return err.Error(), nil
	}
	req := &pb.JoinRequest{
		ClusterId: c.clusterID(), Node: c.cfg.Node, RaftId: c.raftID,
		RaftAddress: c.cfg.RaftAdvertise, AdminAddress: c.cfg.AdminAdvertise, Reads: fsm.Version,
	}
	var resp *pb.JoinResponse
	err = c.callPeer(ctx, peerAt{known.LeaderNode, known.LeaderAddress}, func(ctx context.Context, peer pb.PeerServiceClient) (err error) {
		resp, err = peer.Join(ctx, req)
		return err
	})
	if err != nil {
		return "", err
	}
	if err := c.meet(resp.ClusterId); err != nil {
		return "", err
	}
	if resp.Removed {
		c.cfg.Fatal(fmt.Errorf("node %s %w: it stops; to let it join anew, empty %s first", c.cfg.Node, ErrRemoved, c.cfg.DataDir))
		return ErrRemoved.Error(), nil
	}
	if !resp.Voter {
		return "joins the cluster: catches up", nil
	}
	return "joined the cluster", nil
}
