package fsm

import (
	"bytes"
	"errors"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// backedUp is a state with something of everything, and what is in it.
type backedUp struct {
	*world
	file []byte

	pending, claimed, held, over, deleted, ordered, bulk relay.MessageID
}

func backUp(t *testing.T) *backedUp {
	w, owner, _ := twoNodes(t)
	w.configureCluster()
	w.must(0, &pb.Event{Kind: &pb.Event_ClusterCreated{ClusterCreated: &pb.ClusterCreated{ClusterId: "OLD"}}}, nil)
	b := &backedUp{world: w}
	accept := func() relay.MessageID { return w.accept(1, "one@example.test", "two@example.test") }
	b.pending, b.claimed, b.held, b.over, b.deleted, b.ordered = accept(), accept(), accept(), accept(), accept(), accept()
	w.must(owner, claimOf(1, b.claimed, 0), nil)
	w.must(1, operated(opHold, b.held, 0, 1), nil)
	w.must(1, delivered(nil, b.over, 0, 1), nil)
	w.must(1, operated(opDelete, b.deleted, 0, 1), nil)
	w.must(owner, claimOf(2, b.ordered, 0), nil)
	w.must(1, operated(opBounce, b.ordered, 0, 1), nil) // of the first it waits for the attempt
	w.must(1, w.renewed(domainVerify("example.test", "dest", callout)), nil)
	w.list([]string{"one", "two"})
	w.verify("One", valid, selective, time.Hour)
	b.bulk = w.startBulk(Filter{Domain: "example.test"}, opDelete, 0)
	for range 600 { // more pieces than the entries of a restore sweep by the way
		w.appendPiece(1)
	}
	w.must(1, aborted(w.newID()), nil)
	checkState(t, w.state)
	b.file = saved(t, w)
	return b
}

// appendPiece adds a piece to an upload that nobody finishes.
func (w *world) appendPiece(incarnation uint64) {
	w.t.Helper()
	piece := []byte("a piece")
	id := relay.MessageID{1}
	w.pieces++
	w.must(incarnation, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
		MessageId: id[:], Piece: w.pieces, Crc32C: crc32.Checksum(piece, castagnoli),
	}}}, piece)
}

var restoredVoter = raft.Server{Suffrage: raft.Voter, ID: "n.1", Address: "n.1@127.0.0.1:1"}

// restore makes a new cluster's state of the snapshot.
func (b *backedUp) restore(hold *pb.Operation) (*world, Adopted) {
	t := b.t
	t.Helper()
	cfg := stateConfig(t, "restored", vfs.NewMem())
	header, err := UnpackSnapshot(cfg, bytes.NewReader(b.file))
	if err != nil {
		t.Fatal(err)
	}
	s := openState(t, cfg.Dir, cfg.FS)
	if err := s.CheckRestored(t.Context(), header); err != nil {
		t.Fatal(err)
	}
	checkSameDigests(t, "unpacked", s.Applied().Digests, b.state.Applied().Digests)
	adopted, err := s.Adopt(t.Context(), Adoption{
		ClusterID: "NEW", Voter: restoredVoter, Time: b.now.UnixNano(), Text: "restored", Hold: hold,
	})
	if err != nil {
		t.Fatal(err)
	}
	checkState(t, s)
	w := worldOf(t, s)
	w.index, w.now = adopted.Index, b.now
	return w, adopted
}

// What must not come from the backup doesn't, and nobody delivers anything that
// the old cluster may have delivered since without that being marked.
func TestRestore(t *testing.T) {
	b := backUp(t)
	w, adopted := b.restore(&pb.Operation{Kind: pb.Operation_KIND_HOLD, By: "restore", Reason: "a backup"})
	s := w.state
	if s.ClusterID() != "NEW" || len(s.Nodes()) != 0 {
		t.Errorf("cluster %q with nodes %v", s.ClusterID(), s.Nodes())
	}
	for _, f := range []family{famNodes, famSessions, famResults, famClaims, famUploads, famPieces, famTombstones, famQueue} {
		if n := s.digests[f].rows; n != 0 {
			t.Errorf("%d rows of family %c came from the backup", n, f)
		}
	}
	configuration, index := s.Configuration()
	if len(configuration.Servers) != 1 || configuration.Servers[0] != restoredVoter || index != adopted.Index || s.AppliedIndex() != index {
		t.Errorf("configuration %v at %d, applied %d, adopted %+v", configuration, index, s.AppliedIndex(), adopted)
	}
	if durable, err := s.DurableIndex(); err != nil || durable != index {
		t.Errorf("index %d is on disk, want %d: %v", durable, index, err)
	}
	if adopted.Revoked != 2 || adopted.InDoubt != 10 {
		t.Errorf("%+v, want 2 attempts revoked and 10 recipients in doubt", adopted)
	}
	for _, id := range []relay.MessageID{b.pending, b.claimed, b.held, b.ordered} {
		for n := range uint32(2) {
			r := w.recipientOf(id, n)
			if r.State != held || r.InDoubt == 0 || r.Claim != nil || r.Ordered != nil {
				t.Errorf("%s %d: %v", id, n, r)
			}
		}
	}
	if r := w.recipientOf(b.held, 0); r.HeldBy.GetOperation().GetBy() != opHold.By {
		t.Errorf("it was held by %s before: %v", opHold.By, r)
	}
	if r := w.recipientOf(b.over, 0); r.State != pb.RecipientState_RECIPIENT_STATE_DELIVERED || r.InDoubt != 0 {
		t.Errorf("what was over: %v", r)
	}
	if r := w.recipientOf(b.deleted, 0); r.State != pb.RecipientState_RECIPIENT_STATE_DELETED || r.InDoubt == 0 {
		t.Errorf("what was deleted and may have come back: %v", r)
	}
	if bulk, err := w.view().Bulk(b.bulk); err != nil || bulk.FinishedAt == 0 || bulk.Changed != 0 {
		t.Errorf("the bulk operation goes on: %v %v", bulk, err)
	}
	if n := w.view().Counters(); n.InDoubt != 8 || n.Held != 8 || n.Pending != 0 {
		t.Errorf("counters %v", n)
	}
	kinds := w.historyKinds(b.pending)
	if last := kinds[len(kinds)-1]; last != pb.HistoryRecord_KIND_HELD {
		t.Errorf("history %v", kinds)
	}

	// The new cluster goes on with it.
	w.up("x", 9, 0)
	w.must(9, operated(opRelease, b.pending, 0, 1), nil)
	w.must(9, claimOf(1, b.pending, 0, 1), nil)
	w.must(9, delivered(ref(9, 1), b.pending, 0, 1), nil)
	checkState(t, s)
}

// Without a hold, mail goes out, and what was under way in the backup too.
func TestRestoreToDeliver(t *testing.T) {
	b := backUp(t)
	w, _ := b.restore(nil)
	for _, id := range []relay.MessageID{b.pending, b.claimed} {
		for n := range uint32(2) {
			if r := w.recipientOf(id, n); r.State != pending || r.InDoubt == 0 || r.Claim != nil {
				t.Errorf("%s %d: %v", id, n, r)
			}
		}
	}
	if r := w.recipientOf(b.ordered, 0); r.Ordered.GetOperation().GetKind() != pb.Operation_KIND_BOUNCE {
		t.Errorf("the order to return it is gone: %v", r)
	}
	if due := w.waiting("dest"); len(due) != 4 {
		t.Errorf("due: %v", due)
	}
	if got := w.listedOf("example.test"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("listed: %v", got)
	}
	w.checkVerdicts("restored", map[string]pb.Verdict{"One": valid, "": selective})
}

// Restored twice, the states are the same but for the id of the cluster.
func TestRestoreIsRepeatable(t *testing.T) {
	b := backUp(t)
	one, _ := b.restore(opHold)
	two, _ := b.restore(opHold)
	checkSameDigests(t, "second restore", two.state.Applied().Digests, one.state.Applied().Digests)
}

// A backup from a node whose clock was ahead: time goes on from there, so that
// nothing of the history lies before what it follows.
func TestRestoreKeepsTime(t *testing.T) {
	b := backUp(t)
	b.now = b.now.Add(-1000)
	w, _ := b.restore(opHold)
	if got, want := w.state.Applied().Clock, b.state.Applied().Clock; got < want {
		t.Errorf("the clock went from %d back to %d", want, got)
	}
	history, err := w.view().History(b.pending, Position{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range history[1:] {
		if row.Record.Time < history[i].Record.Time {
			t.Errorf("the history went from %d back to %d", history[i].Record.Time, row.Record.Time)
		}
	}
}

// A full disk is met before a file is written.
func TestRestoreWithoutRoom(t *testing.T) {
	b := backUp(t)
	cfg := stateConfig(t, "restored", tinyDisk{vfs.NewMem()})
	if _, err := UnpackSnapshot(cfg, bytes.NewReader(b.file)); err == nil || errors.Is(err, errTransfer) {
		t.Errorf("restored on a disk without room: %v", err)
	}
}

type tinyDisk struct{ *vfs.MemFS }

func (tinyDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: 10}, nil
}
