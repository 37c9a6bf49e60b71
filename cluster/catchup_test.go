package cluster

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestCatchUps(t *testing.T) {
	c := newCatchUps()
	if c.need(1, 0) {
		t.Error("nobody was sent the state")
	}
	c.begin("a", 100, time.Second)
	<-c.changed
	if !c.need(50, time.Second) {
		t.Error("the log doesn't wait for a follower that the state is on its way to")
	}
	c.sent("a", true)
	if !c.need(200, time.Second) {
		t.Error("a follower at 100 doesn't need the log before 200")
	}
	c.heard("a", 0, 3*time.Second) // a heartbeat
	c.heard("b", 500, 3*time.Second)
	if !c.need(200, 2*time.Second) {
		t.Error("a heartbeat made the follower need nothing")
	}
	c.heard("a", 199, 4*time.Second)
	if c.need(200, 2*time.Second) {
		t.Error("a follower at 199 needs the log before 200")
	}
	c.begin("a", 300, 4*time.Second)
	if c.need(400, 5*time.Second) {
		t.Error("the log waits for a follower that is silent")
	}
	c.begin("a", 300, 5*time.Second)
	c.sent("a", false)
	c.begin("b", 300, 5*time.Second)
	c.forget()
	if c.need(400, 0) {
		t.Error("the log waits for a follower that didn't take the state, or for another leader's")
	}
}

// slowInstall is a disk on which a received state takes as long as the test
// wants.
type slowInstall struct {
	vfs.FS
	begun    chan struct{} // nil: don't wait
	goOn     chan struct{}
	installs atomic.Int32
}

func (d *slowInstall) MkdirAll(dir string, perm os.FileMode) error {
	if strings.Contains(dir, "incoming-") && d.installs.Add(1) == 1 && d.begun != nil {
		close(d.begun)
		<-d.goOn
	}
	return d.FS.MkdirAll(dir, perm)
}

// What is written while a follower receives the state is more than the trailing
// log: it must still be there when the follower has the state, or the follower
// would need another one.
func TestLogStaysWhileFollowerInstalls(t *testing.T) {
	// Another leader would send the state again, and so would this one after a
	// time-out.
	w := steadyWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) {
		c.Limits.TrailingBytes, c.Limits.SnapshotBytes = 1<<20, 2<<20
		c.Timing.RPC = time.Minute
	}
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	leader.configure()
	away := w.nodes[w.others(leader.name)[0]]
	away.stop()
	first := func() uint64 {
		index, err := leader.cluster.stores.log.FirstIndex()
		must(t, err)
		return index
	}
	body := make([]byte, 200<<10)
	write := func() { leader.accept(60, body) }
	write()
	eventually(t, "the log is truncated", func() bool { return first() > 20 })

	disk := &slowInstall{FS: vfs.Default, begun: make(chan struct{}), goOn: make(chan struct{})}
	away.disk = disk
	away.start()
	<-disk.begun
	sent := leader.state.AppliedIndex()
	write()
	// A snapshot of the leader's after this is where it would truncate.
	eventually(t, "a snapshot", func() bool { return !leader.cluster.logs.snapshotDue() })
	if got := first(); got > sent+1 {
		t.Errorf("the leader's log starts at %d, the follower will need %d", got, sent+1)
	}
	close(disk.goOn)
	w.awaitLeased(away.name)
	if n := disk.installs.Load(); n != 1 {
		t.Errorf("the follower received the state %d times", n)
	}
	w.checkEqual(w.names...)
	write()
	eventually(t, "the log is truncated again", func() bool { return first() > sent+1 })
}

// A voter to which the state is on its way can't lead, and whoever asks for it keeps
// nothing out of the log: raft, asked twice, would take nothing until the follower has it.
func TestTransferToFollowerThatInstalls(t *testing.T) {
	w := steadyWorld(t, "a", "b", "c")
	w.adjust = func(c *Config) {
		c.Limits.TrailingBytes, c.Limits.SnapshotBytes = 1<<20, 2<<20
		c.Timing.RPC = time.Minute
	}
	w.startAll()
	w.awaitLeased(w.names...)
	leader := w.leader(w.names...)
	leader.configure()
	away := w.nodes[w.others(leader.name)[0]]
	away.stop()
	leader.accept(60, make([]byte, 200<<10))
	eventually(t, "the log is truncated", func() bool {
		index, err := leader.cluster.stores.log.FirstIndex()
		must(t, err)
		return index > 20
	})
	disk := &slowInstall{FS: vfs.Default, begun: make(chan struct{}), goOn: make(chan struct{})}
	away.disk = disk
	away.start()
	<-disk.begun
	eventually(t, "it is said to lag", func() bool { // once it answers within a poll
		err := leader.cluster.TransferLeadership(within(t, 20*time.Second), away.name)
		if status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("got %v, want a refusal", err)
		}
		return strings.Contains(err.Error(), "node "+away.name+" hasn't caught up with the log yet")
	})
	target, _ := current(leader.cluster.serversOf(away.name))
	for range 2 { // as a leader that is to stop would
		if err := leader.cluster.giveTo(t.Context(), target); err == nil {
			t.Error("leadership went to a node that has no state")
		}
		leader.must(message(t, testBody), testBody)
	}
	close(disk.goOn)
	w.awaitLeased(away.name)
	leader.giveTo(t, away.name)
}
