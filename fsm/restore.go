package fsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// UnpackSnapshot puts the state of a snapshot's file into a folder that has none,
// once all its checksums are right. Open opens it.
func UnpackSnapshot(cfg Config, file io.Reader) (*pb.SnapshotHeader, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	s := &State{cfg: cfg, log: cfg.Logger}
	snapshot, err := openSnapshot(file)
	if err != nil {
		return nil, err
	}
	if err := makeDir(cfg.FS, cfg.Dir); err != nil {
		return nil, err
	}
	// CURRENT comes first, as in any new folder.
	number, err := currentGeneration(cfg)
	if err != nil {
		return nil, err
	}
	dir := cfg.FS.PathJoin(cfg.Dir, generationName(number))
	if err := makeDir(cfg.FS, dir); err != nil {
		return nil, err
	}
	err = snapshot.unpack(func(stream io.Reader) error { return receiveFiles(stream, cfg.FS, dir, s.mayTake) })
	if err != nil {
		return nil, err
	}
	return snapshot.header, syncDir(cfg.FS, cfg.Dir)
}

// CheckRestored compares a state with the header of the snapshot that it is from:
// every row is read.
func (s *State) CheckRestored(ctx context.Context, header *pb.SnapshotHeader) error {
	view, err := s.View()
	if err != nil {
		return err
	}
	defer view.Close()
	if view.Index() != header.Index || view.ClusterID() != header.ClusterId ||
		!slices.EqualFunc(view.Digests(), header.Digests, func(a, b *pb.AppliedRecord_Digest) bool { return proto.Equal(a, b) }) {
		return fmt.Errorf("it is damaged: its state at index %d isn't what its header says", view.Index())
	}
	check, err := s.CheckRows(ctx, func() int64 { return 0 }, func(int, int) error { return nil })
	if err != nil {
		return err
	}
	if len(check.Damages) > 0 {
		return fmt.Errorf("it is damaged: family %s %s", check.Damages[0].Family, check.Damages[0].Text)
	}
	return nil
}

// Adoption says how a new cluster goes on with a state of another one.
type Adoption struct {
	ClusterID string
	Voter     raft.Server // its only one
	Time      int64       // nanoseconds since 1970

	// Of a backup: which it is, for the history; why pending mail is held, nil
	// where it isn't; and who is told how many recipients are marked.
	Text     string
	Hold     *pb.Operation
	Progress func(recipients uint64)

	// Of a log: where it ends, and the term that the new cluster begins with.
	LastIndex, Term uint64
}

// Adopted is what an adoption came to.
type Adopted struct {
	Revoked int    // attempts that were under way in the backup
	InDoubt uint64 // recipients marked
	Index   uint64 // of the state now
}

// Adopt makes a restored state that of a new cluster. What it changes goes
// through Apply, as entries that follow the backup's last: the nodes that join
// later are sent what came of it.
func (s *State) Adopt(ctx context.Context, a Adoption) (Adopted, error) {
	d := &adopting{s: s, Adoption: a}
	for _, step := range []func(context.Context) error{d.forgetNodes, d.dropUploads, d.doubtAll} {
		if err := step(ctx); err != nil {
			return d.done, fmt.Errorf("restore: %w", err)
		}
	}
	err := d.conclude(true)
	return d.done, err
}

// Inherit makes the state that of a new cluster which goes on where the old one's
// log ends, all of it folded: nodes, attempts and operations are what they were.
// But a majority went on after that, and nobody knows how far: what isn't over
// here may be over there, and is in doubt. Done again, it marks nothing twice.
func (s *State) Inherit(ctx context.Context, a Adoption) (Adopted, error) {
	d := &adopting{s: s, Adoption: a, once: true}
	err := d.doubtAll(ctx)
	if err == nil {
		err = d.conclude(false)
	}
	if err != nil {
		err = fmt.Errorf("recover: %w", err)
	}
	return d.done, err
}

type adopting struct {
	s *State
	Adoption
	once bool // what is in doubt stays as it is
	done Adopted
}

// apply folds one entry with an event behind all that the state has.
func (d *adopting) apply(event *pb.Event) (*pb.EventResult, error) {
	// Time doesn't go back behind what the state has.
	event.Time = max(d.Time, d.s.Applied().Clock)
	data, err := EncodeEntry([]*pb.Event{event}, [][]byte{nil})
	if err != nil {
		return nil, err
	}
	applied, err := d.fold(raft.LogCommand, data)
	if err != nil {
		return nil, err
	}
	if r := applied.Results[0]; r.Code != pb.EventResult_CODE_OK {
		return nil, errors.New(r.Text)
	}
	return applied.Results[0], nil
}

func (d *adopting) fold(kind raft.LogType, data []byte) (*Applied, error) {
	last := d.s.Applied()
	entry := &raft.Log{Index: max(last.Index, d.LastIndex) + 1, Term: max(last.Term, d.Term), Type: kind, Data: data}
	switch response := d.s.Apply(entry).(type) {
	case *Applied:
		d.done.Index = response.Index
		return response, nil
	case error:
		return nil, response
	default:
		return nil, fmt.Errorf("the state answered with %T", response)
	}
}

// forgetNodes takes the backup's nodes out, with their sessions and results. The
// attempts that they had under way are in doubt.
func (d *adopting) forgetNodes(ctx context.Context) error {
	for _, node := range list(d.s.published().nodes) {
		d.done.Revoked += len(d.s.claims.attempts(node.Incarnation))
		_, err := d.apply(&pb.Event{Kind: &pb.Event_NodeRemoved{NodeRemoved: &pb.NodeRemoved{
			Node: node.Name, Incarnation: node.Incarnation,
		}}})
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// dropUploads lets go of bodies whose acceptance will not come: their clients
// were never told 250. Each entry sweeps a few pieces.
func (d *adopting) dropUploads(ctx context.Context) error {
	for len(d.s.orphans) > 0 {
		_, err := d.apply(&pb.Event{Kind: &pb.Event_Restored{Restored: &pb.Restored{}}})
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// doubtAll marks everything that isn't over, piece by piece.
func (d *adopting) doubtAll(ctx context.Context) error {
	view, err := d.s.View()
	if err != nil {
		return err
	}
	defer view.Close()
	var piece []*pb.Target
	flush := func() error {
		if len(piece) == 0 {
			return nil
		}
		result, err := d.apply(&pb.Event{Kind: &pb.Event_Restored{Restored: &pb.Restored{
			Targets: piece, Hold: d.Hold, Text: d.Text,
		}}})
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		d.done.InDoubt += uint64(result.Changed)
		piece = nil
		if d.Progress != nil {
			d.Progress(d.done.InDoubt)
		}
		return nil
	}
	each := func(id relay.MessageID, number uint32) error {
		if d.once {
			r, err := view.Recipient(id, number)
			if err != nil || r.InDoubt > 0 {
				return err
			}
		}
		if countTargets(piece) == maxOperated {
			if err := flush(); err != nil {
				return err
			}
		}
		piece = AddTarget(piece, id, number)
		return nil
	}
	if err := view.eachUnfinished(each); err != nil {
		return err
	}
	return flush()
}

// eachUnfinished finds the open recipients, and those that were deleted and can
// come back.
func (v *View) eachUnfinished(each func(id relay.MessageID, number uint32) error) error {
	row := func(key, _ []byte) error {
		_, id, number := tailOf(key)
		return each(id, number)
	}
	return firstError(
		scan(v.snap, []byte{byte(famOpen)}, row),
		scan(v.snap, leavingPrefix(leavingDeleted), row),
	)
}

// conclude names the new cluster and makes it one of one voter, on disk.
func (d *adopting) conclude(endsBulks bool) error {
	_, err := d.apply(&pb.Event{Kind: &pb.Event_Restored{Restored: &pb.Restored{
		ClusterId: d.ClusterID, EndsBulks: endsBulks, Text: d.Text,
	}}})
	if err != nil {
		return err
	}
	configuration := raft.Configuration{Servers: []raft.Server{d.Voter}}
	if _, err := d.fold(raft.LogConfiguration, raft.EncodeConfiguration(configuration)); err != nil {
		return err
	}
	return d.s.flush()
}

// flush puts all that is applied on disk.
func (s *State) flush() error {
	gen, err := s.acquire()
	if err != nil {
		return err
	}
	defer gen.release()
	return gen.db.Flush()
}

// Redo applies entries of a log while no raft runs, and puts what comes of them
// on disk.
func (s *State) Redo(first, last uint64, read func(index uint64, entry *raft.Log) error) error {
	for index := max(first, s.AppliedIndex()+1); index <= last; index++ {
		entry := &raft.Log{}
		if err := read(index, entry); err != nil {
			return fmt.Errorf("read entry %d of the log: %w", index, err)
		}
		// Raft hands no others to the state either.
		if entry.Type != raft.LogCommand && entry.Type != raft.LogConfiguration {
			continue
		}
		if err, failed := s.Apply(entry).(error); failed {
			return err
		}
	}
	return s.flush()
}

// Applied says up to where the state is folded. It isn't to be changed.
func (s *State) Applied() *pb.AppliedRecord {
	s.live.RLock()
	defer s.live.RUnlock()
	return s.live.applied
}
