package fsm

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Position is a row's place in the log of what happened to messages: the raft
// index of its entry, and its number among the entry's rows.
type Position struct {
	Index uint64
	Row   uint32
}

// Behind is the position after this one.
func (p Position) Behind() Position { return Position{Index: p.Index, Row: p.Row + 1} }

func (p Position) before(q Position) bool {
	return p.Index < q.Index || p.Index == q.Index && p.Row < q.Row
}

// HistoryRow is one thing that happened to a message.
type HistoryRow struct {
	Position
	Record *pb.HistoryRecord
}

// OfEarlierAddress: the row tells of an address that its recipient had before, and
// isn't for somebody who is limited to the domain of the one that it has now.
func (r HistoryRow) OfEarlierAddress() bool {
	return r.Record.Kind == pb.HistoryRecord_KIND_DELIVERED_ELSEWHERE
}

// History reads a message's log from a position on, oldest first, at most limit
// rows. Its first row is the acceptance, which is kept in the message's own
// record.
func (v *View) History(id relay.MessageID, from Position, limit int) ([]HistoryRow, error) {
	m, err := v.Message(id)
	if err != nil {
		return nil, err
	}
	var rows []HistoryRow
	if first := acceptedRow(m); !first.before(from) && limit > 0 {
		rows = append(rows, first)
	}
	err = scanFrom(v.snap, keyOfHistory(id, from.Index, from.Row), after(keyOfID(famHistory, id)),
		func(key, value []byte) error {
			if len(rows) == limit {
				return errStop
			}
			row, err := historyRow(key, value)
			rows = append(rows, row)
			return err
		})
	return rows, err
}

func historyRow(key, value []byte) (HistoryRow, error) {
	tail := key[len(key)-12:]
	row := HistoryRow{
		Position: Position{Index: binary.BigEndian.Uint64(tail), Row: binary.BigEndian.Uint32(tail[8:])},
		Record:   &pb.HistoryRecord{},
	}
	return row, proto.Unmarshal(value, row.Record)
}

func acceptedRow(m *pb.MessageRecord) HistoryRow {
	record := &pb.HistoryRecord{
		Kind: pb.HistoryRecord_KIND_ACCEPTED, Index: m.AcceptedIndex, Time: m.AcceptedAt,
		Node: m.Origin.GetNode(),
	}
	for number := range m.Recipients {
		record.Recipients = append(record.Recipients, number)
	}
	return HistoryRow{Position: Position{Index: m.AcceptedIndex, Row: m.AcceptedRow}, Record: record}
}
