package harness_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// A whole cluster through the harness: every fault that it offers is set once,
// and the cluster must answer to it.
func TestClusterOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := startCluster(ctx, t)
	server, err := sink.Start(sink.Config{IDHeader: load.HeaderID})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	must(t, route(ctx, c.Nodes[0], server.Addr()))

	expectAccepted(ctx, t, "whole", c.SMTP())
	leader, err := c.Leader(ctx)
	must(t, err)
	others := without(c, leader)

	t.Log("isolating the leader", leader.Name)
	c.Network.Isolate(leader.Name)
	expectDeferred(ctx, t, "isolated", leader)
	expectAccepted(ctx, t, "majority", smtp(others))
	c.Network.Heal()
	must(t, leader.WaitReady(ctx))
	expectAccepted(ctx, t, "healed", []string{leader.SMTP})

	t.Log("stalling, delaying, one way: two of three nodes always see each other")
	c.Network.Stall(others[0].Name, leader.Name)
	expectAccepted(ctx, t, "stalled", []string{others[1].SMTP})
	c.Network.Heal()
	c.Network.OneWay(others[1].Name, others[0].Name)
	expectAccepted(ctx, t, "oneway", []string{leader.SMTP})
	c.Network.Heal()
	c.Network.Delay(others[0].Name, others[1].Name, 20*time.Millisecond)
	expectAccepted(ctx, t, "delayed", c.SMTP())
	c.Network.Heal()

	t.Log("pausing", others[0].Name)
	must(t, others[0].Pause())
	expectAccepted(ctx, t, "paused", smtp(without(c, others[0])))
	must(t, others[0].Resume())
	must(t, others[0].WaitReady(ctx))

	memory, err := others[0].Memory()
	must(t, err)
	if memory.Resident < 1<<20 || memory.Peak < memory.Resident {
		t.Errorf("node %s has %+v in memory", others[0].Name, memory)
	}
	if applied, err := others[0].Metric(ctx, "holdfast_applied_index"); err != nil || applied < 10 {
		t.Errorf("applied index %v, %v", applied, err)
	}
	if err := others[1].Wipe(); err == nil {
		t.Error("the data of a running node was wiped")
	}

	t.Log("stopping and starting", others[1].Name)
	stop, cancelStop := context.WithTimeout(ctx, 40*time.Second)
	defer cancelStop()
	must(t, others[1].Stop(stop))
	must(t, others[1].Start())
	must(t, others[1].WaitReady(ctx))
	expectAccepted(ctx, t, "restarted", []string{others[1].SMTP})

	must(t, harness.Eventually(ctx, "an empty queue", func(ctx context.Context) error {
		var count harness.Count
		if err := others[1].JSON(ctx, &count, "queue", "count"); err != nil {
			return err
		}
		if count.Pending+count.Held > 0 {
			return fmt.Errorf("%+v", count)
		}
		return nil
	}))
	if _, err := c.Nodes[0].CLI(ctx, "cluster", "verify"); err != nil {
		t.Error(err)
	}
}

// Nodes within one process: mail goes through, one node stops and comes back,
// and nothing is left when the cluster is closed (TestMain looks).
func TestClusterInProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := startNodes(ctx, t, harness.Config{InProcess: true, Nodes: 3, Dir: shortDir(t)})
	server, err := sink.Start(sink.Config{IDHeader: load.HeaderID})
	must(t, err)
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	must(t, routeByCall(ctx, c.Nodes[0], server.Addr()))
	expectAccepted(ctx, t, "inside", c.SMTP())
	leader, err := c.Leader(ctx)
	must(t, err)
	if err := leader.Kill(); err == nil {
		t.Error("a node within this process can be killed")
	}
	must(t, leader.Stop(ctx))
	expectAccepted(ctx, t, "without", smtp(without(c, leader)))
	must(t, leader.Start())
	must(t, leader.WaitReady(ctx))
	expectAccepted(ctx, t, "again", []string{leader.SMTP})
	must(t, server.WaitStats(ctx, func(s sink.Stats) bool { return s.Committed >= 18 }))
}

func routeByCall(ctx context.Context, n *harness.Node, host string) (err error) {
	conn, err := n.Dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	_, err = pb.NewDestinationServiceClient(conn).SetDestination(ctx, &pb.SetDestinationRequest{
		Name: "sink", Hosts: []*pb.DestinationHost{{Address: host, Priority: 10, Weight: 1}},
	})
	if err != nil {
		return err
	}
	_, err = pb.NewDomainServiceClient(conn).SetDomain(ctx, &pb.SetDomainRequest{Name: "sink.test", Destination: new("sink"), Verify: new(pb.Verify_VERIFY_OFF)})
	return err
}

// shortDir is not t.TempDir: a socket's path must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func startCluster(ctx context.Context, t *testing.T) *harness.Cluster {
	t.Helper()
	dir := shortDir(t)
	binary, err := harness.Build(ctx, dir)
	must(t, err)
	return startNodes(ctx, t, harness.Config{Binary: binary, Dir: dir, Nodes: 3})
}

func startNodes(ctx context.Context, t *testing.T, config harness.Config) *harness.Cluster {
	t.Helper()
	c, err := harness.Start(ctx, config)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Tails(30))
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func route(ctx context.Context, n *harness.Node, host string) error {
	if _, err := n.CLI(ctx, "destination", "set", "sink", "--host", host); err != nil {
		return err
	}
	_, err := n.CLI(ctx, "domain", "set", "sink.test", "--destination", "sink", "--verify", "off")
	return err
}

// expectAccepted sends to each address until three messages each were accepted.
func expectAccepted(ctx context.Context, t *testing.T, run string, addresses []string) {
	t.Helper()
	for i, address := range addresses {
		report := send(ctx, t, fmt.Sprintf("%s%d", run, i), address, 3, 30*time.Second)
		if got := report.Count(load.Accepted); got < 3 {
			t.Fatalf("%s: %s accepted %d of 3 messages; last answer: %+v", run, address, got, lastAnswer(report))
		}
	}
}

// expectDeferred wants a node without a majority to say 4xx: once its lease is
// over it accepts nothing, and it refuses nothing for good.
func expectDeferred(ctx context.Context, t *testing.T, run string, n *harness.Node) {
	t.Helper()
	attempt := 0
	must(t, harness.Eventually(ctx, "451 from node "+n.Name, func(ctx context.Context) error {
		attempt++
		report := send(ctx, t, fmt.Sprintf("%s%d", run, attempt), n.SMTP, 1, time.Second)
		if refused := report.Count(load.Refused); refused > 0 {
			return harness.Final(fmt.Errorf("a node in the minority refused for good: %+v", lastAnswer(report)))
		}
		if report.Count(load.Deferred) == 0 || report.Count(load.Accepted) > 0 {
			return fmt.Errorf("last answer: %+v", lastAnswer(report))
		}
		return nil
	}))
}

func send(ctx context.Context, t *testing.T, run, address string, count int, limit time.Duration) *load.Report {
	t.Helper()
	loader, err := load.New(load.Config{
		Addresses: []string{address}, Sessions: 1, Run: run, Count: count, Duration: limit,
		Recipients: []string{"user@sink.test"}, Size: 1024,
	})
	must(t, err)
	report, err := loader.Run(ctx)
	must(t, err)
	return report
}

func lastAnswer(report *load.Report) load.Answer {
	if len(report.Answers) == 0 {
		return load.Answer{Reply: fmt.Sprintf("%d connections failed", report.ConnectionsRefused)}
	}
	return report.Answers[len(report.Answers)-1]
}

func without(c *harness.Cluster, n *harness.Node) []*harness.Node {
	var all []*harness.Node
	for _, other := range c.Nodes {
		if other != n {
			all = append(all, other)
		}
	}
	return all
}

func smtp(nodes []*harness.Node) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.SMTP)
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
