package delivery

import (
	"hash/crc32"
	"sync"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// testLog folds each event into the state of every node, in one order and as
// the same bytes, as raft would.
type testLog struct {
	w *world

	mu        sync.Mutex // guards all below, and Apply
	index     uint64
	states    []*fsm.State
	sequences map[uint64]uint64
	events    []*pb.Event
	payloads  [][]byte       // of the events
	maxClaims map[string]int // by destination: the most that were live at once
}

const testTerm = 1

func (l *testLog) propose(incarnation uint64, event *pb.Event, payload []byte) (*pb.EventResult, uint64) {
	return l.proposeTo(incarnation, event, payload, func(*fsm.State) []byte { return payload })
}

// proposeTo has a piece of content be another one in some states, as if their disks had
// changed it.
func (l *testLog) proposeTo(incarnation uint64, event *pb.Event, payload []byte, kept func(*fsm.State) []byte) (*pb.EventResult, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	event.Incarnation = incarnation
	if incarnation != 0 {
		l.sequences[incarnation]++
		event.Sequence = l.sequences[incarnation]
		event.LowestOpen = event.Sequence
	}
	l.index++
	var result *pb.EventResult
	for _, state := range l.states {
		mine := kept(state)
		if piece := event.GetContentAppended(); piece != nil {
			piece.Crc32C = crc32.Checksum(mine, castagnoli)
		}
		entry, err := fsm.EncodeEntry([]*pb.Event{event}, [][]byte{mine})
		if err != nil {
			l.w.t.Errorf("encode: %v", err)
			return &pb.EventResult{Code: pb.EventResult_CODE_INVALID}, l.index
		}
		response := state.Apply(&raft.Log{Index: l.index, Term: testTerm, Type: raft.LogCommand, Data: entry})
		applied, ok := response.(*fsm.Applied)
		if !ok {
			l.w.t.Errorf("apply: %v", response)
			return &pb.EventResult{Code: pb.EventResult_CODE_INVALID}, l.index
		}
		result = applied.Results[0]
	}
	l.events, l.payloads = append(l.events, event), append(l.payloads, payload)
	for _, d := range l.states[0].Destinations() {
		name := d.Config.Name
		l.maxClaims[name] = max(l.maxClaims[name], l.states[0].ForeignClaims(name, 0))
	}
	return result, l.index
}

// count counts the events so far for which f is true.
func (l *testLog) count(f func(*pb.Event) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.events {
		if f(e) {
			n++
		}
	}
	return n
}

func (l *testLog) mostClaims(destination string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.maxClaims[destination]
}
