package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

func TestRaftAddressChanges(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	n := w.nodes[w.others(leader.name)[0]]
	n.stop()
	n.raft = freeAddress(t)
	w.net.own(n.raft, n.name)
	n.start()
	w.awaitLeased(n.name)
	eventually(t, "the leader has the new address", func() bool {
		return slices.ContainsFunc(leader.cluster.Members(), func(m Member) bool { return m.Node == n.name && m.Address == n.raft && m.Voter })
	})
	if members := leader.cluster.Members(); len(members) != 3 {
		t.Errorf("members %+v, want 3", members)
	}
}

func TestRemovedNodeStaysOut(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	n := w.nodes[w.others(leader.name)[0]]
	must(t, leader.cluster.raft.Load().RemoveServer(raft.ServerID(n.cluster.raftID), 0, 0).Error())
	select {
	case err := <-n.fatal:
		if !strings.Contains(err.Error(), "was removed from the cluster") {
			t.Errorf("the node stops with %q", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the removed node goes on")
	}
	// It may not come in again with its old votes.
	if servers := leader.cluster.serversOf(n.name); len(servers) != 0 {
		t.Errorf("it is a member again: %v", servers)
	}
	// Nor is it told so by a leader that may have a successor, who took it in.
	w.net.isolate(leader.name, w.others(leader.name)[1])
	resp, err := (&peerServer{c: leader.cluster}).Join(within(t, leader.cluster.cfg.Timing.Poll), &pb.JoinRequest{
		ClusterId: n.state.ClusterID(), Node: n.name, RaftId: n.cluster.raftID, RaftAddress: n.raft, AdminAddress: n.admin, Reads: fsm.Version,
	})
	if err == nil {
		t.Errorf("a leader that is cut off answers %v", resp)
	}
}

// A follower that was away for longer than the trailing log lasts receives the
// state, and its log starts anew.
func TestInstallBeyondTrailingLog(t *testing.T) {
	const messages = 60
	for _, store := range []string{LogStoreWAL, LogStoreBoltDB} {
		t.Run(store, func(t *testing.T) {
			w := steadyWorld(t, "a", "b", "c")
			w.logStore = store
			w.adjust = func(c *Config) {
				c.Limits.TrailingBytes, c.Limits.SnapshotBytes = 1<<20, 2<<20
				c.Timing.RPC = time.Minute // after a time-out the state would be sent again
			}
			w.startAll()
			w.awaitLeased(w.names...)
			leader := w.leader(w.names...)
			leader.configure()
			away := w.nodes[w.others(leader.name)[0]]
			away.stop()
			body := make([]byte, 200<<10)
			leader.accept(messages, body)
			eventually(t, "the log is truncated", func() bool {
				first, err := leader.cluster.stores.log.FirstIndex()
				must(t, err)
				return first > 20
			})
			disk := &slowInstall{FS: vfs.Default}
			away.disk = disk
			away.start()
			w.awaitLeased(away.name)
			if got := away.pending(); got != messages {
				t.Errorf("%d pending recipients, want %d", got, messages)
			}
			if n := disk.installs.Load(); n != 1 {
				t.Errorf("the state was received %d times, want once", n)
			}
			w.checkEqual(w.names...)
			away.stop()
			away.start()
			w.awaitLeased(away.name)
			w.checkEqual(w.names...)
		})
	}
}
