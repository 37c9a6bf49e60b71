package operate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/audit"
	"holdfast/test/harness"
)

// Two of three nodes are lost with their disks. The third goes on with all that
// it has, and two new ones join it.
func TestRecoverLostQuorum(t *testing.T) {
	isLong(t)
	w := start(t)
	w.cli(w.Nodes[0], "destination", "suspend", "sink") // mail is pending when it happens
	w.load("quorum", 6, w.SMTP()...)
	w.awaitPending(300)
	w.endLoad()
	w.awaitLevel()
	survivor, lost := w.Nodes[0], w.Nodes[1:]
	w.refused(survivor, 1, "is in use: is the node running already?", "cluster", "recover", "--data-dir", survivor.Data(), "--yes")
	w.must(survivor.Kill())
	w.wipe(lost...)
	w.refused(survivor, 2, "run it on a terminal, or with --yes", "cluster", "recover", "--data-dir", survivor.Data())
	w.refused(survivor, 1, "no node.json", "cluster", "recover", "--data-dir", lost[0].Data(), "--yes")
	w.cli(survivor, "cluster", "recover", "--data-dir", survivor.Data(), "--dry-run")
	w.cli(survivor, "cluster", "recover", "--data-dir", survivor.Data(), "--yes")
	w.startAll(survivor)
	w.startAll(lost...)
	w.cli(survivor, "destination", "resume", "sink")
	w.audit(audit.NoLimit)
	audit.Verify(w.ctx, &w.journal, w.Cluster)
	w.must(w.journal.Verdict(t.Name(), func() string { return w.Tails(5) }))
	w.cli(survivor, "status")
}

// Three of five nodes are wiped and started while two are cut off: they make no
// new cluster, neither then nor when the two are back. The better of the two is
// recovered, and the others join it.
func TestWipedMajorityMakesNoCluster(t *testing.T) {
	isLong(t)
	w := startWith(t, harness.Config{Nodes: 5, LogLevel: "info"})
	w.load("majority", 4, w.SMTP()...)
	w.must(w.sink.Wait(w.ctx, atLeast(200)))
	w.endLoad()
	w.awaitEmpty(w.Nodes[0])
	w.awaitLevel()
	wiped, kept := w.Nodes[:3], w.Nodes[3:]
	for _, n := range kept {
		for _, other := range wiped {
			w.Network.Cut(n.Name, other.Name)
		}
	}
	w.wipe(wiped...)
	for _, n := range wiped {
		w.must(n.Start())
	}
	for _, n := range wiped {
		w.awaitSaid(n, "waits for all 5 first members")
	}
	w.Network.Heal()
	for _, n := range wiped {
		w.awaitSaid(n, "knows the cluster but no leader")
		if s := w.status(n); !s.Stale || len(s.Nodes) != 0 {
			t.Errorf("node %s is in a cluster: %+v", n.Name, s.Status)
		}
		if out := w.cli(n, "status", "--json"); !strings.Contains(out, `"leader":null`) {
			t.Errorf("node %s has a leader: %s", n.Name, out)
		}
	}
	for _, n := range kept {
		w.must(n.Kill())
	}
	out := w.cli(kept[0], "cluster", "recover", "--data-dir", kept[0].Data(), "--data-dir", kept[1].Data(), "--yes")
	best, other := kept[0], kept[1]
	if strings.Contains(out, "node "+other.Name+" is the only voter") {
		best, other = other, best
	}
	w.must(best.Start())
	w.must(best.WaitReady(w.ctx))

	// The other one, with its old data, is foreign.
	w.must(other.Start())
	w.awaitSaid(other, "is foreign, this node belongs to")
	w.wipe(other)
	w.startAll(other)
	for _, n := range wiped {
		w.must(n.WaitReady(w.ctx))
	}
	w.audit(audit.NoLimit)
	audit.Verify(w.ctx, &w.journal, w.Cluster)
	w.must(w.journal.Verdict(t.Name(), func() string { return w.Tails(5) }))
}

// Whoever names another cluster is refused by every node, at gRPC and at raft.
func TestForeignNodeIsRefused(t *testing.T) {
	w := start(t)
	const foreign = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
	for _, n := range w.Nodes {
		conn, err := grpc.NewClient(n.Admin, grpc.WithTransportCredentials(insecure.NewCredentials()))
		w.must(err)
		_, err = pb.NewPeerServiceClient(conn).Join(w.ctx, &pb.JoinRequest{
			ClusterId: foreign, Node: "x", RaftId: "x.1", RaftAddress: n.Raft, AdminAddress: n.Admin,
		})
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "is foreign") {
			t.Errorf("node %s lets a foreign node join: %v", n.Name, err)
		}
		w.must(conn.Close())
		if answer := w.greetRaft(n, foreign); !strings.Contains(answer, "is foreign") {
			t.Errorf("raft of node %s answers a foreign node %q", n.Name, answer)
		}
	}
	if s := w.status(w.Nodes[0]); len(s.Nodes) != 3 {
		t.Errorf("nodes %+v", s.Nodes)
	}
}

// greetRaft opens a raft connection as a node of a cluster would, and gives the
// answer: "" is a welcome.
func (w *world) greetRaft(n *harness.Node, cluster string) string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.Data(), "node.json"))
	w.must(err)
	var identity struct {
		RaftID string `json:"raft_id"`
	}
	w.must(json.Unmarshal(data, &identity))
	conn, err := net.Dial("tcp", n.Raft)
	w.must(err)
	defer conn.Close()
	w.must(conn.SetDeadline(time.Now().Add(10 * time.Second)))
	greeting := []byte("HFR1")
	for _, s := range []string{cluster, "x.1", identity.RaftID} {
		greeting = append(append(greeting, byte(len(s))), s...)
	}
	_, err = conn.Write(greeting)
	w.must(err)
	length := make([]byte, 1)
	_, err = io.ReadFull(conn, length)
	w.must(err)
	answer := make([]byte, length[0])
	_, err = io.ReadFull(conn, answer)
	w.must(err)
	return string(answer)
}

// awaitSaid waits until a node's log has words.
func (w *world) awaitSaid(n *harness.Node, words string) {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, fmt.Sprintf("%q from node %s", words, n.Name), func(context.Context) error {
		text, _, err := n.Output(0)
		if err == nil && !strings.Contains(text, words) {
			return fmt.Errorf("not in %d bytes of its log", len(text))
		}
		return err
	}))
}

// awaitLevel waits until all nodes have applied the same.
func (w *world) awaitLevel() {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, "all nodes at one index", func(ctx context.Context) error {
		var s harness.Status
		if err := w.Nodes[0].JSON(ctx, &s, "status"); err != nil {
			return err
		}
		for _, n := range s.Nodes {
			if n.AppliedIndex != s.Nodes[0].AppliedIndex {
				return fmt.Errorf("%+v", s.Nodes)
			}
		}
		return nil
	}))
}

// awaitPending waits for so many pending recipients.
func (w *world) awaitPending(n int) {
	w.t.Helper()
	w.must(harness.Eventually(w.ctx, "a queue", func(ctx context.Context) error {
		var count harness.Count
		if err := w.Nodes[0].JSON(ctx, &count, "queue", "count"); err != nil {
			return err
		}
		if count.Pending < n {
			return fmt.Errorf("%d pending, want %d", count.Pending, n)
		}
		return nil
	}))
}
