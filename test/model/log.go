package model

import (
	"errors"
	"fmt"
	"log/slog"

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

// logs is the tree of all logs, each folded once by a state machine of its own.
type logs struct {
	without     Rule
	destination string
	nodes       []logNode
	open        map[logID]*fsm.State // at the end of these logs
	opened      int
}

// maxOpen bounds how many states are open at once.
const maxOpen = 128

// baseIndex is where the logs begin: behind the events that set the scene.
const baseIndex = 8

func newLogs(without Rule) (*logs, error) {
	l := &logs{without: without, open: make(map[logID]*fsm.State)}
	for n := 0; ; n++ {
		l.destination = fmt.Sprintf("dest-%d", n)
		state, err := l.begin()
		if err != nil {
			return nil, err
		}
		if owner, _ := state.Owner(l.destination); owner != nodeNames[nodeA] {
			if err := state.Close(); err != nil {
				return nil, err
			}
			continue
		}
		root := logNode{path: []logID{0}, next: make(map[entry]logID)}
		if err := l.read(state, &root.facts); err != nil {
			return nil, err
		}
		l.nodes, l.open[0] = append(l.nodes, root), state
		return l, nil
	}
}

// close closes all states.
func (l *logs) close() error {
	var errs []error
	for _, state := range l.open {
		errs = append(errs, state.Close())
	}
	return errors.Join(errs...)
}

// begin opens a state with both nodes up and a destination.
func (l *logs) begin() (*fsm.State, error) {
	l.opened++
	var fatal error
	state, err := fsm.Open(fsm.Config{
		Dir: "state", Node: nodeNames[nodeA], FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(), Fatal: func(err error) { fatal = err },
	})
	if err != nil {
		return nil, err
	}
	first := incarnation(nodeA, 1)
	scene := []*pb.Event{
		{Kind: &pb.Event_ClusterCreated{ClusterCreated: &pb.ClusterCreated{ClusterId: "model"}}},
		{Incarnation: first, Sequence: 1, Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{Node: nodeNames[nodeA], Incarnation: first}}},
		{Incarnation: incarnation(nodeB, 1), Sequence: 1, Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{Node: nodeNames[nodeB], Incarnation: incarnation(nodeB, 1)}}},
		{Incarnation: first, Sequence: 2, Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{
			Destination: &pb.DestinationConfig{Name: l.destination, Slots: 2, Tls: "none", Hosts: []*pb.DestinationConfig_Host{{Address: "127.0.0.1:25"}}}}}},
		{Incarnation: first, Sequence: 3, Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{
			Domain: &pb.DomainConfig{Name: domain, Destination: l.destination, Policy: "five-day"}}}},
	}
	for i, event := range scene {
		event.Time = now
		result, err := fold(state, uint64(i+1), 1, event, nil)
		if err == nil && result.Code != pb.EventResult_CODE_OK {
			err = fmt.Errorf("scene: %s", result.Text)
		}
		if err = errors.Join(err, fatal); err != nil {
			return nil, errors.Join(err, state.Close())
		}
	}
	return state, nil
}

func fold(state *fsm.State, index, term uint64, event *pb.Event, payload []byte) (*pb.EventResult, error) {
	data, err := fsm.EncodeEntry([]*pb.Event{event}, [][]byte{payload})
	if err != nil {
		return nil, err
	}
	switch response := state.Apply(&raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data}).(type) {
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
	state, err := l.stateAt(id)
	if err != nil {
		return 0, err
	}
	child := logNode{next: make(map[entry]logID)}
	if child.facts, err = l.apply(state, id, e); err != nil {
		return 0, fmt.Errorf("log %d: %w", id, err)
	}
	next := logID(len(l.nodes))
	child.path = append(append([]logID(nil), l.nodes[id].path...), next)
	l.nodes = append(l.nodes, child)
	l.nodes[id].next[e] = next
	delete(l.open, id)
	l.open[next] = state
	return next, nil
}

// stateAt is a state at the end of a log: one that is there, or a new one.
func (l *logs) stateAt(id logID) (*fsm.State, error) {
	if state, ok := l.open[id]; ok {
		return state, nil
	}
	if len(l.open) >= maxOpen {
		for old, state := range l.open {
			delete(l.open, old)
			if err := state.Close(); err != nil {
				return nil, err
			}
			break
		}
	}
	state, err := l.begin()
	if err != nil {
		return nil, err
	}
	path := l.nodes[id].path
	for i, step := range path[1:] {
		if _, err := l.apply(state, path[i], l.nodes[step].facts.entry); err != nil {
			return nil, errors.Join(err, state.Close())
		}
	}
	l.open[id] = state
	return state, nil
}

// apply folds an entry into a state that is at the end of a log.
func (l *logs) apply(state *fsm.State, id logID, e entry) (facts, error) {
	before := l.nodes[id].facts
	f := facts{index: before.index + 1, entry: e, alias: before.alias, heard: before.heard || e.kind == delivered}
	event, payload := l.naive(id, e, &f)
	result, err := fold(state, baseIndex+uint64(f.index), uint64(e.term), event, payload)
	if err != nil {
		return f, err
	}
	f.result = result.Code
	return f, l.read(state, &f)
}

// read takes the facts from the state.
func (l *logs) read(state *fsm.State, f *facts) error {
	view, err := state.View()
	if err != nil {
		return err
	}
	defer view.Close()
	f.owner = nobody
	owner, _ := view.Owner(l.destination)
	for _, record := range view.Nodes() {
		x := uint8(nodeA)
		if record.Name == nodeNames[nodeB] {
			x = nodeB
		}
		f.members[x] = member{inc: uint8(record.Incarnation), active: record.Active}
		if a := f.alias[x]; a.inc != 0 && f.members[x].inc == a.base {
			f.members[x].inc = a.inc
		}
		if record.Name == owner {
			f.owner = x
		}
	}
	recipient, err := view.Recipient(theMessage, 0)
	if errors.Is(err, fsm.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	f.exists = true
	f.pending = recipient.State == pb.RecipientState_RECIPIENT_STATE_PENDING
	f.delivered = recipient.State == pb.RecipientState_RECIPIENT_STATE_DELIVERED
	f.doubts = uint8(recipient.InDoubt)
	f.claim = f.unalias(refOf(recipient.Claim))
	history, err := view.History(theMessage)
	if err != nil {
		return err
	}
	for _, row := range history {
		f.counted = f.counted || row.Kind == pb.HistoryRecord_KIND_ABORTED
	}
	return nil
}

// at are the facts after the first n entries of a log.
func (l *logs) at(id logID, n uint8) *facts { return &l.nodes[l.nodes[id].path[n]].facts }

// end are the facts after the whole log.
func (l *logs) end(id logID) *facts { return &l.nodes[id].facts }
