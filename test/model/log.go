package model

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// logID names a distinct log: a node in the tree of all logs that came up.
type logID int32

// member is a node's record.
type member struct {
	inc    uint8
	active bool
}

// facts are what readers of the state see after a log.
type facts struct {
	index     uint8
	entry     entry // the last one
	result    pb.EventResult_Code
	exists    bool
	counted   bool // as a possible duplicate, by an abort
	pending   bool
	delivered bool // recorded as delivered
	held      bool // after two deaths
	heard     bool // a Delivered is in the log, whatever it came to
	claim     ref
	doubts    uint8
	members   [2]member
	owner     uint8
	alias     [2]alias
}

// alias: without ruleRevokeAtUp an incarnation goes on in the session of the
// one that it replaced, whose claims so stay.
type alias struct{ inc, base uint8 }

// aliasOffset keeps the numbers of an alias apart from those of its base.
const aliasOffset = 100

type logNode struct {
	facts facts
	path  []logID // from the root to this one
	next  map[entry]logID
}

// logs is the tree of all logs, each folded once from its beginning. One state
// machine folds many of them, one after the other, each under names of its own.
type logs struct {
	without Rule
	nodes   []logNode
	state   *fsm.State
	index   uint64 // of the state's log
	fatal   error
	folded  uint64
}

// firstSequence is that of the model's own events; those of the scene are lower.
const firstSequence = 60

// beforeFirst is the incarnation of each node before the scene.
const beforeFirst = 255

// perState bounds how many logs a state folds: its nodes stay in it.
const perState = 100

func newLogs(without Rule) (*logs, error) {
	l := &logs{without: without, nodes: []logNode{{path: []logID{0}, next: make(map[entry]logID)}}}
	s, err := l.begin()
	if err != nil {
		return nil, err
	}
	return l, errors.Join(l.read(s, &l.nodes[0].facts), l.finish(s))
}

// close closes the state.
func (l *logs) close() error {
	if l.state == nil {
		return l.fatal
	}
	state := l.state
	l.state = nil
	return errors.Join(l.fatal, state.Close())
}

func (l *logs) open() error {
	if l.state != nil && l.folded%perState != 0 {
		return nil
	}
	if err := l.close(); err != nil {
		return err
	}
	var err error
	l.index = 0
	l.state, err = fsm.Open(fsm.Config{
		Dir: "state", Node: nodeNames[nodeA], FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(), Fatal: func(err error) { l.fatal = err },
	})
	return err
}

// begin sets the scene for a log: both nodes up, and a destination that A owns.
// Both have come back a moment ago, so a node that comes back again owns its
// destinations at once, and ownership moves to and fro.
func (l *logs) begin() (space, error) {
	if err := l.open(); err != nil {
		return space{}, err
	}
	l.folded++
	s := space{number: l.folded}
	var scene []*pb.Event
	for x := uint8(0); x < nobody; x++ {
		before := s.incarnation(x, beforeFirst)
		scene = append(scene,
			&pb.Event{Incarnation: before, Sequence: 1, Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{Node: s.name(x), Incarnation: before}}},
			&pb.Event{Incarnation: s.incarnation(x, 1), Sequence: 1, Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{
				Node: s.name(x), Incarnation: s.incarnation(x, 1), Replaces: before}}})
	}
	for _, event := range scene {
		if err := l.must(event); err != nil {
			return s, err
		}
	}
	for n := 0; n < firstSequence-3; n++ {
		s.destination = fmt.Sprintf("dest-%d-%d", s.number, n)
		err := l.must(&pb.Event{Incarnation: s.incarnation(nodeA, 1), Sequence: uint64(2 + n),
			Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: &pb.DestinationConfig{
				Name: s.destination, Slots: 2, Tls: "none", Hosts: []*pb.DestinationConfig_Host{{Address: "127.0.0.1:25"}}}}}})
		if err != nil {
			return s, err
		}
		if owner, _ := l.state.Owner(s.destination); owner == s.name(nodeA) {
			return s, l.must(&pb.Event{Incarnation: s.incarnation(nodeB, 1), Sequence: 2,
				Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{
					Domain: &pb.DomainConfig{Name: s.domain(), Destination: s.destination, Policy: "five-day"}}}})
		}
	}
	return s, errors.New("node A owns none of the destinations")
}

// finish takes the nodes of a log away: the next log's own ones share its destination.
func (l *logs) finish(s space) error {
	for x := uint8(0); x < nobody; x++ {
		record, ok := l.state.Node(s.name(x))
		if !ok || !record.Active {
			continue
		}
		err := l.must(&pb.Event{Kind: &pb.Event_NodeDown{NodeDown: &pb.NodeDown{
			Node: record.Name, Incarnation: record.Incarnation, Term: 1}}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *logs) must(event *pb.Event) error {
	event.Time = now
	result, err := l.fold(1, event, nil)
	if err == nil && result.Code != pb.EventResult_CODE_OK {
		err = fmt.Errorf("scene: %s", result.Text)
	}
	return err
}

func (l *logs) fold(term uint64, event *pb.Event, payload []byte) (*pb.EventResult, error) {
	data, err := fsm.EncodeEntry([]*pb.Event{event}, [][]byte{payload})
	if err != nil {
		return nil, err
	}
	l.index++
	switch response := l.state.Apply(&raft.Log{Index: l.index, Term: term, Type: raft.LogCommand, Data: data}).(type) {
	case *fsm.Applied:
		return response.Results[0], nil
	case error:
		return nil, response
	default:
		return nil, fmt.Errorf("apply answers %T", response)
	}
}

// with is the log that has one more entry.
func (l *logs) with(id logID, e entry) (logID, error) {
	if next, ok := l.nodes[id].next[e]; ok {
		return next, nil
	}
	s, err := l.begin()
	if err != nil {
		return 0, err
	}
	path := l.nodes[id].path
	for i, step := range path[1:] {
		again := l.nodes[step].facts
		if _, err := l.apply(s, path[i], again.entry, &again); err != nil {
			return 0, fmt.Errorf("log %d: %w", step, err)
		}
	}
	before := l.nodes[id].facts
	f := facts{index: before.index + 1, entry: e, alias: before.alias, heard: before.heard || e.kind == delivered}
	if f.result, err = l.apply(s, id, e, &f); err != nil {
		return 0, fmt.Errorf("log %d: %w", id, err)
	}
	if err := errors.Join(l.read(s, &f), l.finish(s)); err != nil {
		return 0, err
	}
	next := logID(len(l.nodes))
	l.nodes = append(l.nodes, logNode{facts: f, path: append(slices.Clone(path), next), next: make(map[entry]logID)})
	l.nodes[id].next[e] = next
	return next, nil
}

// apply folds an entry behind a log.
func (l *logs) apply(s space, id logID, e entry, f *facts) (pb.EventResult_Code, error) {
	event, payload := l.naive(s, id, e, f)
	result, err := l.fold(uint64(e.term), event, payload)
	if err != nil {
		return 0, err
	}
	return result.Code, nil
}

// read takes the facts from the state.
func (l *logs) read(s space, f *facts) error {
	view, err := l.state.View()
	if err != nil {
		return err
	}
	defer view.Close()
	f.owner = nobody
	owner, _ := view.Owner(s.destination)
	for x := uint8(0); x < nobody; x++ {
		record, ok := l.state.Node(s.name(x))
		if !ok {
			return fmt.Errorf("node %s is missing", s.name(x))
		}
		f.members[x] = member{inc: uint8(record.Incarnation), active: record.Active}
		if a := f.alias[x]; a.inc != 0 && f.members[x].inc == a.base {
			f.members[x].inc = a.inc
		}
		if record.Name == owner {
			f.owner = x
		}
	}
	recipient, err := view.Recipient(s.message(), 0)
	if errors.Is(err, fsm.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	f.exists = true
	f.pending = recipient.State == pb.RecipientState_RECIPIENT_STATE_PENDING
	f.delivered = recipient.State == pb.RecipientState_RECIPIENT_STATE_DELIVERED
	f.held = recipient.State == pb.RecipientState_RECIPIENT_STATE_HELD
	f.doubts = uint8(recipient.InDoubt)
	f.claim = f.unalias(refOf(recipient.Claim))
	history, err := view.History(s.message(), fsm.Position{}, math.MaxInt)
	if err != nil {
		return err
	}
	for _, row := range history {
		f.counted = f.counted || row.Record.Kind == pb.HistoryRecord_KIND_ABORTED
	}
	return nil
}

// at are the facts after the first n entries of a log.
func (l *logs) at(id logID, n uint8) *facts { return &l.nodes[l.nodes[id].path[n]].facts }

// end are the facts after the whole log.
func (l *logs) end(id logID) *facts { return &l.nodes[id].facts }
