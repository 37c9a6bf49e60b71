package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

func TestWipedNodeComesBack(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	w.nodes["a"].configure()
	w.nodes["a"].must(message(t, testBody), testBody)
	c := w.nodes["c"]
	oldID := c.cluster.raftID
	c.stop()
	c.wipe()
	c.start()
	w.awaitLeased("c")
	if c.cluster.raftID == oldID {
		t.Fatal("the wiped node has its old raft id")
	}
	c.must(message(t, testBody), testBody)
	w.checkEqual(w.names...)
	for _, name := range w.names {
		eventually(t, "the old raft id is gone on "+name, func() bool {
			members := w.nodes[name].cluster.Members()
			if len(members) != 3 {
				return false
			}
			for _, m := range members {
				if m.RaftID == oldID || !m.Voter {
					return false
				}
			}
			return true
		})
	}
}

// The smallest node makes clusters; wiped, it must not make a second one.
func TestWipedFounderComesBack(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	a := w.nodes["a"]
	id := a.state.ClusterID()
	a.stop()
	a.wipe()
	a.start()
	w.awaitLeased("a")
	if got := a.state.ClusterID(); got != id {
		t.Errorf("cluster id %s, want %s", got, id)
	}
	w.checkEqual(w.names...)
}

func TestSecondDataFolderRefused(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	live := w.nodes[w.others(leader.name)[0]]
	other := w.add("other")
	other.name = live.name // the same node_id, somewhere else
	other.join = []string{leader.admin}
	other.start()
	_, err := (&peerServer{c: leader.cluster}).Join(t.Context(), &pb.JoinRequest{
		Node: live.name, RaftId: other.cluster.raftID, RaftAddress: other.raft, AdminAddress: other.admin,
	})
	if status.Code(err) != codes.AlreadyExists {
		t.Errorf("got %v, want AlreadyExists", err)
	}
	if n := len(leader.cluster.Members()); n != 3 {
		t.Errorf("%d members, want 3", n)
	}
}

// The same raft id at two addresses would be two voters that know nothing of each
// other's votes: the copy waits until the node is gone.
func TestCopiedDataFolderRefused(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) { c.Limits.TrailingBytes = 1 << 20 } // small files to copy
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	n := w.nodes[w.others(leader.name)[0]]
	n.stop()
	moved := w.add("moved")
	moved.name, moved.join = n.name, []string{leader.admin}
	must(t, os.CopyFS(moved.dir, os.DirFS(n.dir)))
	n.start()
	w.awaitLeased(n.name)
	moved.start()
	eventually(t, "the copy says who is up where", func() bool {
		voter, waitsFor, err := moved.cluster.JoinVia(within(t, 50*time.Millisecond), moved.join)
		if voter || err != nil {
			t.Fatalf("the copy: voter %v, %v", voter, err)
		}
		return strings.Contains(waitsFor, "node "+n.name+" is up already, at "+n.admin+",")
	})
	at := func(address string) bool {
		servers := leader.cluster.serversOf(n.name)
		return len(servers) == 1 && string(servers[0].Address) == raftAddress(n.cluster.raftID, address)
	}
	if !at(n.raft) {
		t.Errorf("members %+v, want node %s at %s", leader.cluster.Members(), n.name, n.raft)
	}
	n.stop()
	w.awaitLeased("moved")
	if !at(moved.raft) {
		t.Errorf("members %+v, want node %s at %s", leader.cluster.Members(), n.name, moved.raft)
	}
}

func TestForeignCluster(t *testing.T) {
	ours, theirs := newWorld(t, "a"), newWorld(t, "b")
	ours.startAll()
	theirs.startAll()
	ours.awaitLeased("a")
	theirs.awaitLeased("b")
	a, b := ours.nodes["a"], theirs.nodes["b"]

	_, err := a.cluster.helloTo(t.Context(), peerAt{address: b.admin})
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("hello: %v, want PermissionDenied", err)
	}
	server := &peerServer{c: b.cluster}
	if _, err := server.Join(t.Context(), &pb.JoinRequest{ClusterId: a.state.ClusterID(), Node: "a", RaftId: a.cluster.raftID, RaftAddress: a.raft, AdminAddress: a.admin}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("join: %v, want PermissionDenied", err)
	}
	if _, err := server.Ping(t.Context(), &pb.PingRequest{ClusterId: a.state.ClusterID(), Node: "a"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("ping: %v, want PermissionDenied", err)
	}
	if _, err := server.Ping(t.Context(), &pb.PingRequest{Node: "a"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("ping without a cluster: %v, want PermissionDenied", err)
	}

	// Raft connections: a foreign cluster, then the wrong target.
	dial := func(target string) error {
		_, err := a.cluster.layer.Dial(raft.ServerAddress(raftAddress(target, b.raft)), testTiming().RPC)
		return err
	}
	if err := dial(b.cluster.raftID); err == nil || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("raft connection of a foreign cluster: %v", err)
	}
	if err := dial("b.OLD"); err == nil || !strings.Contains(err.Error(), "not b.OLD") {
		t.Errorf("raft connection to another raft id: %v", err)
	}
}

func TestDataFolderChecks(t *testing.T) {
	wants := func(t *testing.T, n *testNode, text string) {
		t.Helper()
		c, err := n.open()
		if err == nil {
			err = errors.Join(c.Close(), n.state.Close())
			t.Fatalf("opened (%v), want an error with %q", err, text)
		}
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got %q, want it to contain %q", err, text)
		}
	}
	for name, test := range map[string]struct {
		change func(t *testing.T, w *world, n *testNode)
		want   string
	}{
		"another node's":    {func(t *testing.T, w *world, n *testNode) { n.name = "z" }, `holds the data of node "a"`},
		"another log store": {func(t *testing.T, w *world, n *testNode) { w.logStore = LogStoreBoltDB }, "raft.log_store"},
		"lost log": {func(t *testing.T, w *world, n *testNode) {
			must(t, os.RemoveAll(filepath.Join(n.dir, "raft", "wal")))
		}, "raft/wal belongs to nothing"},
		"lost votes": {func(t *testing.T, w *world, n *testNode) {
			must(t, os.Remove(filepath.Join(n.dir, "raft", "stable.db")))
		}, "raft/stable.db belongs to nothing"},
		"lost node.json": {func(t *testing.T, w *world, n *testNode) {
			must(t, os.Remove(filepath.Join(n.dir, "node.json")))
		}, "no node.json"},
		"broken node.json": {func(t *testing.T, w *world, n *testNode) {
			must(t, os.WriteFile(filepath.Join(n.dir, "node.json"), []byte("{"), 0o600))
		}, "node.json"},
		"lost state after truncation": {func(t *testing.T, w *world, n *testNode) {
			must(t, os.RemoveAll(filepath.Join(n.dir, "state")))
			s, err := openStores(filepath.Join(n.dir, "raft"), LogStoreWAL, smallSegment, newHCLog(testLogger(t), nil))
			must(t, err)
			must(t, s.log.DeleteRange(1, 2))
			must(t, s.close())
		}, "starts at entry 3 but the state ends at 0"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			n := w.nodes["a"].start()
			w.awaitLeased("a")
			n.stop()
			test.change(t, w, n)
			wants(t, n, test.want)
		})
	}
}

// A crash after a received state went live and before raft reset its log.
func TestStateAheadOfLog(t *testing.T) {
	w := newWorld(t, "a")
	n := w.nodes["a"].start()
	w.awaitLeased("a")
	n.configure()
	n.stop()
	s, err := openStores(filepath.Join(n.dir, "raft"), LogStoreWAL, smallSegment, newHCLog(testLogger(t), nil))
	must(t, err)
	last, err := s.log.LastIndex()
	must(t, err)
	must(t, s.log.DeleteRange(last-1, last))
	must(t, s.close())
	n.start()
	w.awaitLeased("a")
	n.must(message(t, testBody), testBody)
	if got := n.pending(); got != 1 {
		t.Errorf("%d pending recipients, want 1", got)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
