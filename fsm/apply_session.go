package fsm

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// session is an active incarnation's open sequences. An ambiguous outcome makes
// a proposer send its event again; the session makes sure that it takes effect
// once, whatever else has happened in between.
type session struct {
	incarnation uint64
	record      *pb.SessionRecord
	raw         []byte
	results     map[uint64]*pb.EventResult
	rows        []resultsRow // in log order
	tombstones  []tombstone  // in order of their sequences
	pending     []*pb.ResultsRecord_Result
}

// resultsRow is a stored row of results; it goes once all its sequences are closed.
type resultsRow struct {
	index     uint64
	highest   uint64
	sequences []uint64
	value     []byte
}

type tombstone struct {
	sequence uint64
	id       relay.MessageID
}

// applyOnce applies the current event unless its session knows its result.
func (t *tx) applyOnce() *pb.EventResult {
	if t.event.Kind == nil && !t.event.Ignorable {
		// Whoever knows the kind may apply it without a session.
		return t.applyEvent()
	}
	if up := t.event.GetNodeUp(); up != nil {
		// The first event of an incarnation opens the session it belongs to.
		return t.count(t.applyEvent())
	}
	if t.event.Incarnation == 0 {
		return t.count(t.applyLeaders())
	}
	s, ok := t.s.sessions[t.event.Incarnation]
	if !ok {
		if d := t.event.GetDelivered(); d != nil {
			// The remote has the message, however its sender ended: whoever took the
			// claim over must not send it again. Told twice, it counts once.
			t.node = d.Attempt.GetNode()
			return t.count(t.delivered(d))
		}
		return refused(pb.EventResult_CODE_NOT_ACTIVE, "incarnation %x is not active", t.event.Incarnation)
	}
	t.advance(s, t.event.LowestOpen)
	if known, ok := s.results[t.event.Sequence]; ok {
		return known
	}
	if t.event.Sequence < s.record.LowestOpen {
		return stale("sequence %d is closed", t.event.Sequence)
	}
	t.node = s.record.Node
	result := t.count(t.applyEvent())
	// The event may have ended its own session.
	if t.s.sessions[s.incarnation] == s {
		s.results[t.event.Sequence] = result
		s.pending = append(s.pending, &pb.ResultsRecord_Result{Sequence: t.event.Sequence, Result: result})
	}
	return result
}

// applyLeaders applies what a leader proposes in its own term, or what was
// written while no node ran: it is never forwarded or repeated, and needs no
// session.
func (t *tx) applyLeaders() *pb.EventResult {
	switch t.event.Kind.(type) {
	case *pb.Event_ClusterCreated, *pb.Event_NodeEligible, *pb.Event_NodeDown, *pb.Event_NodeRemoved,
		*pb.Event_Restored, *pb.Event_VersionRaised:
		t.node = ""
		return t.applyEvent()
	}
	return refused(pb.EventResult_CODE_NOT_ACTIVE, "the event has no incarnation")
}

func (t *tx) count(result *pb.EventResult) *pb.EventResult {
	t.s.metrics.events.WithLabelValues(resultLabel(result.Code)).Inc()
	return result
}

func resultLabel(code pb.EventResult_Code) string {
	switch code {
	case pb.EventResult_CODE_OK:
		return "ok"
	case pb.EventResult_CODE_STALE:
		return "stale"
	}
	return "refused"
}

// advance forgets the results that the proposer will never ask for again.
func (t *tx) advance(s *session, lowestOpen uint64) {
	if lowestOpen <= s.record.LowestOpen {
		return
	}
	s.record.LowestOpen = lowestOpen
	t.saveSession(s)
	for len(s.rows) > 0 && s.rows[0].highest < lowestOpen {
		t.forgetRow(s, s.rows[0])
		s.rows = s.rows[1:]
	}
	for len(s.tombstones) > 0 && s.tombstones[0].sequence < lowestOpen {
		t.removeTombstone(s.tombstones[0].id)
		s.tombstones = s.tombstones[1:]
	}
}

func (t *tx) forgetRow(s *session, row resultsRow) {
	t.remove(keyOfPair(famResults, s.incarnation, row.index), row.value)
	for _, sequence := range row.sequences {
		delete(s.results, sequence)
	}
}

func (t *tx) saveSession(s *session) {
	value := encode(s.record)
	t.put(keyOfSession(s.incarnation), s.raw, value)
	s.raw = value
}

// saveResults stores the results of the entry just applied, a row for each
// session that it had events of.
func (t *tx) saveResults() {
	for _, incarnation := range t.incarnationsOfEntry() {
		s := t.s.sessions[incarnation]
		record := &pb.ResultsRecord{Results: s.pending}
		row := resultsRow{index: t.index, value: encode(record)}
		for _, result := range s.pending {
			row.highest = max(row.highest, result.Sequence)
			row.sequences = append(row.sequences, result.Sequence)
		}
		t.put(keyOfPair(famResults, incarnation, t.index), nil, row.value)
		s.rows, s.pending = append(s.rows, row), nil
	}
}

func (t *tx) incarnationsOfEntry() []uint64 {
	var found []uint64
	for incarnation, s := range t.s.sessions {
		if len(s.pending) > 0 {
			found = append(found, incarnation)
		}
	}
	slices.Sort(found) // map order must not reach the state
	return found
}

// openSession starts an incarnation's session.
func (t *tx) openSession(node string, incarnation uint64) {
	s := newSession(incarnation)
	s.record.Node = node
	t.s.sessions[incarnation] = s
	t.saveSession(s)
}

// endSession ends an incarnation: its later events are refused.
func (t *tx) endSession(incarnation uint64) {
	s, ok := t.s.sessions[incarnation]
	if !ok {
		return
	}
	delete(t.s.sessions, incarnation)
	t.remove(keyOfSession(incarnation), s.raw)
	for _, row := range s.rows {
		t.forgetRow(s, row)
	}
	for _, stone := range s.tombstones {
		t.removeTombstone(stone.id)
	}
}

func newSession(incarnation uint64) *session {
	return &session{
		incarnation: incarnation,
		record:      &pb.SessionRecord{},
		results:     make(map[uint64]*pb.EventResult),
	}
}

// loadSessions reads all sessions with what they keep.
func loadSessions(db pebble.Reader) (map[uint64]*session, error) {
	sessions := make(map[uint64]*session)
	err := scan(db, []byte{byte(famSessions)}, func(key, value []byte) error {
		s := newSession(binary.BigEndian.Uint64(key[1:]))
		s.raw = slices.Clone(value)
		sessions[s.incarnation] = s
		return proto.Unmarshal(value, s.record)
	})
	if err != nil {
		return nil, err
	}
	if err := loadResults(db, sessions); err != nil {
		return nil, err
	}
	return sessions, loadTombstones(db, sessions)
}

func loadResults(db pebble.Reader, sessions map[uint64]*session) error {
	return scan(db, []byte{byte(famResults)}, func(key, value []byte) error {
		s, ok := sessions[binary.BigEndian.Uint64(key[1:])]
		if !ok {
			return nil
		}
		var record pb.ResultsRecord
		if err := proto.Unmarshal(value, &record); err != nil {
			return err
		}
		row := resultsRow{index: binary.BigEndian.Uint64(key[9:]), value: slices.Clone(value)}
		for _, result := range record.Results {
			row.highest = max(row.highest, result.Sequence)
			row.sequences = append(row.sequences, result.Sequence)
			s.results[result.Sequence] = result.Result
		}
		s.rows = append(s.rows, row)
		return nil
	})
}

func loadTombstones(db pebble.Reader, sessions map[uint64]*session) error {
	err := scan(db, []byte{byte(famTombstones)}, func(key, value []byte) error {
		var record pb.TombstoneRecord
		if err := proto.Unmarshal(value, &record); err != nil {
			return err
		}
		if s, ok := sessions[record.Incarnation]; ok {
			s.tombstones = append(s.tombstones, tombstone{sequence: record.Sequence, id: relay.MessageID(key[1:])})
		}
		return nil
	})
	for _, s := range sessions {
		slices.SortFunc(s.tombstones, bySequence)
	}
	return err
}

func (t *tx) addTombstone(id relay.MessageID) {
	s, ok := t.s.sessions[t.event.Incarnation]
	if !ok {
		return // a leader's own event: no acceptance of its own can follow
	}
	record := &pb.TombstoneRecord{Incarnation: t.event.Incarnation, Sequence: t.event.Sequence}
	t.put(keyOfID(famTombstones, id), nil, encode(record))
	// Sorted as after a restart: which ones go must not depend on who restarted.
	s.tombstones = append(s.tombstones, tombstone{sequence: t.event.Sequence, id: id})
	slices.SortFunc(s.tombstones, bySequence)
}

// wasAborted asks the tombstones, which are all in memory: a look into the
// database for each acceptance would nearly always be for nothing.
func (t *tx) wasAborted(id relay.MessageID) bool {
	for _, s := range t.s.sessions {
		if slices.ContainsFunc(s.tombstones, func(stone tombstone) bool { return stone.id == id }) {
			return true
		}
	}
	return false
}

func bySequence(a, b tombstone) int { return cmp.Compare(a.sequence, b.sequence) }

func (t *tx) removeTombstone(id relay.MessageID) {
	key := keyOfID(famTombstones, id)
	if old := t.get(key); old != nil {
		t.remove(key, old)
	}
}
