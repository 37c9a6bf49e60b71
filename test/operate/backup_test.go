package operate_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/audit"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// wipe empties a node's data folder, as a new disk is.
func (w *world) wipe(nodes ...*harness.Node) {
	w.t.Helper()
	for _, n := range nodes {
		w.must(n.Kill())
		w.must(os.RemoveAll(n.Data()))
		w.must(os.MkdirAll(n.Data(), 0o700))
	}
}

func (w *world) startAll(nodes ...*harness.Node) {
	w.t.Helper()
	for _, n := range nodes {
		w.must(n.Start())
	}
	for _, n := range nodes {
		w.must(n.WaitReady(w.ctx))
	}
}

// loadSlowly sends so many messages a second until endLoad.
func (w *world) loadSlowly(run string, perSecond int) {
	w.t.Helper()
	loader, err := load.New(load.Config{
		Addresses: w.SMTP(), Roam: true, Sessions: 12, Run: run, Duration: 3 * time.Minute,
		Recipients: []string{"user@sink.test"}, Size: 1024, LongEvery: 100, LongSize: 600 << 10, PerConnection: 50,
		Admit: load.Pace(perSecond),
	})
	w.must(err)
	w.run(loader)
}

// follower is a node that doesn't lead.
func (w *world) follower() *harness.Node {
	w.t.Helper()
	leader, err := w.Leader(w.ctx)
	w.must(err)
	for _, n := range w.Nodes {
		if n != leader {
			return n
		}
	}
	return nil
}

// acceptedBefore keeps the answers of messages that were accepted by then.
func acceptedBefore(answers []load.Answer, at time.Time) (kept []load.Answer) {
	for _, a := range answers {
		if a.Outcome == load.Accepted && a.At.Before(at) {
			kept = append(kept, a)
		}
	}
	return kept
}

// A snapshot is saved by a follower while mail comes in; the old cluster goes on
// for a while and loses everything. In the new one all that was accepted before
// the save arrives, and what the old one had delivered since comes again, marked.
func TestBackupUnderLoad(t *testing.T) {
	isLong(t)
	for name, flags := range map[string][]string{"held": nil, "delivered": {"--deliver"}} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			file := filepath.Join(w.Nodes[0].Dir, "backup.snapshot")
			w.loadSlowly("backup", 200)
			w.must(w.sink.Wait(w.ctx, atLeast(300)))
			w.cli(w.Nodes[0], "destination", "suspend", "sink") // a queue for the snapshot
			w.awaitPending(400)
			saving := time.Now()
			w.cli(w.follower(), "snapshot", "save", file)
			t.Logf("saved in %s", time.Since(saving).Round(time.Millisecond))
			w.cli(w.Nodes[0], "destination", "resume", "sink")
			got := len(w.sink.Messages())
			w.must(w.sink.Wait(w.ctx, atLeast(got+200))) // of them some are in the snapshot
			report := w.endLoad()
			w.wipe(w.Nodes...)

			a := w.Nodes[0]
			w.cli(a, "snapshot", "inspect", file)
			w.cli(a, append([]string{"snapshot", "restore", file, "--config", a.ConfigPath()}, flags...)...)
			w.refused(a, 1, "has data of a node", "snapshot", "restore", file, "--config", a.ConfigPath())
			w.startAll(w.Nodes...)
			if flags == nil {
				if s := w.status(a); s.Queue.Pending != 0 || s.Queue.Held < 300 || s.Queue.InDoubt != s.Queue.Held {
					t.Errorf("queue %+v", s.Queue)
				}
			}
			w.cli(a, "destination", "resume", "sink") // it was suspended in the snapshot
			if flags == nil {
				w.cli(a, "queue", "release", "--all", "--yes")
			}
			w.answers = acceptedBefore(report.Answers, saving)
			w.journal.Say("%d of %d messages were accepted before the save", len(w.answers), report.Count(load.Accepted))
			w.audit(audit.NoLimit)
			audit.Verify(w.ctx, &w.journal, w.Cluster)
			w.must(w.journal.Verdict(t.Name(), func() string { return w.Tails(5) }))
		})
	}
}

// A client that goes away ends its save, and one at a time is sent; a node that
// dies while it sends keeps no copy.
func TestSaveEnds(t *testing.T) {
	w := start(t)
	a := w.Nodes[0]
	file := filepath.Join(a.Dir, "one.snapshot")
	w.must(os.WriteFile(file, []byte("the one before"), 0o600))
	conn, err := a.Dial()
	w.must(err)
	defer conn.Close()
	w.cli(a, "destination", "suspend", "sink")
	w.sendLong(a, 12)
	end := w.beginSave(conn)
	w.refused(a, 1, "is sending a snapshot already", "snapshot", "save", file)
	if text, err := os.ReadFile(file); err != nil || string(text) != "the one before" {
		t.Errorf("the file that was there is %q, %v", text, err)
	}
	end()
	w.must(harness.Eventually(w.ctx, "a save", func(ctx context.Context) error {
		_, err := a.CLI(ctx, "snapshot", "save", file)
		return err
	}))
	w.noCopies(a)

	w.beginSave(conn)
	w.must(a.Kill())
	w.must(a.Start())
	w.must(a.WaitReady(w.ctx))
	w.noCopies(a)

	// Without a quorum the node's own state is saved, and marked.
	w.must(w.Nodes[1].Kill())
	w.must(w.Nodes[2].Kill())
	w.awaitWarning(a, "no-quorum", "")
	w.cli(a, "snapshot", "save", file)
	var header struct {
		Stale bool `json:"stale"`
		Node  string
	}
	w.must(a.JSON(w.ctx, &header, "snapshot", "inspect", file))
	if !header.Stale || header.Node != "a" {
		t.Errorf("a snapshot without a quorum says %+v", header)
	}
}

// Killed anywhere, a restore is run again and then is whole; the node doesn't
// start before.
func TestRestoreInterrupted(t *testing.T) {
	isLong(t)
	w := start(t)
	a := w.Nodes[0]
	file := filepath.Join(a.Dir, "backup.snapshot")
	w.cli(a, "destination", "suspend", "sink")
	w.sendLong(a, 8)
	w.cli(a, "snapshot", "save", file)
	w.wipe(w.Nodes...)
	for _, after := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(w.ctx, after)
		out, err := a.CLI(ctx, "snapshot", "restore", file, "--config", a.ConfigPath()) // ends with SIGKILL
		cancel()
		_, marked := os.Stat(filepath.Join(a.Data(), "unfinished"))
		t.Logf("killed after %s: %v %s, unfinished: %v", after, err, out, marked == nil)
		if err == nil {
			w.wipe(a)
			continue
		}
		if marked != nil {
			continue // it hadn't begun
		}
		w.must(a.Start())
		w.awaitEnd(a)
		if !strings.Contains(w.Tails(3), "was interrupted: run it again first") {
			t.Errorf("the node says:\n%s", w.Tails(3))
		}
	}
	w.refused(a, 1, "is cut off", "snapshot", "restore", cut(t, file), "--config", a.ConfigPath())
	w.cli(a, "snapshot", "restore", file, "--config", a.ConfigPath())
	// The first node is killed as it begins, and while the second joins.
	w.startAll(a)
	w.must(a.Kill())
	w.startAll(a)
	w.must(w.Nodes[1].Start())
	w.must(a.Kill())
	w.must(a.Start())
	w.must(w.Nodes[2].Start())
	for _, n := range w.Nodes {
		w.must(n.WaitReady(w.ctx))
	}
	if s := w.status(a); s.Queue.Held < 8 {
		t.Errorf("queue %+v", s.Queue)
	}
	audit.Verify(w.ctx, &w.journal, w.Cluster)
	w.must(w.journal.Verdict(t.Name(), func() string { return w.Tails(5) }))
}

// cut is a file without its end.
func cut(t *testing.T, file string) string {
	t.Helper()
	all, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file+".cut", all[:len(all)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file + ".cut"
}

func atLeast(n int) func([]sink.Message) bool {
	return func(all []sink.Message) bool { return len(all) >= n }
}

// sendLong has a node take so many messages that no buffer holds them.
func (w *world) sendLong(n *harness.Node, count int) {
	w.t.Helper()
	loader, err := load.New(load.Config{
		Addresses: []string{n.SMTP}, Sessions: 2, Run: "long", Count: count,
		Recipients: []string{"user@sink.test"}, Size: 600 << 10,
	})
	w.must(err)
	report, err := loader.Run(w.ctx)
	w.must(err)
	w.answers = append(w.answers, report.Answers...)
}

// beginSave takes the first piece of a snapshot and leaves it there; the rest
// waits until end.
func (w *world) beginSave(conn *grpc.ClientConn) (end context.CancelFunc) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	w.t.Cleanup(cancel)
	stream, err := pb.NewClusterServiceClient(conn).SaveSnapshot(ctx, &pb.SaveSnapshotRequest{})
	w.must(err)
	_, err = stream.Recv()
	w.must(err)
	return cancel
}

// noCopies wants nothing of a snapshot to be left in the data folder.
func (w *world) noCopies(n *harness.Node) {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(n.Data(), "state", "outgoing-*"))
	if err != nil || len(found) > 0 {
		w.t.Errorf("node %s keeps %v (%v)", n.Name, found, err)
	}
}
