package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// Limits of the log, in bytes.
const (
	MaxEntry = 512 << 10 // one raft entry
	MaxEvent = 384 << 10 // one event with its payload
	MaxPiece = 256 << 10 // one piece of a body, or a body inside its acceptance
)

// ErrEntry is wrapped by the errors of an entry that can't be decoded.
var ErrEntry = errors.New("malformed entry")

// EncodeEntry packs events and their payloads into a raft entry: the length of
// the EventBatch (4 bytes, big endian), the EventBatch, the payloads in order.
// Bodies stay outside protobuf so that Apply copies them once, into Pebble. It
// sets each event's payload_size.
func EncodeEntry(events []*pb.Event, payloads [][]byte) ([]byte, error) {
	total := 0
	for i, event := range events {
		event.PayloadSize = uint32(len(payloads[i]))
		total += len(payloads[i])
	}
	batch := &pb.EventBatch{Events: events}
	size := proto.Size(batch)
	entry := make([]byte, 4, 4+size+total)
	entry, err := proto.MarshalOptions{}.MarshalAppend(entry, batch)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	binary.BigEndian.PutUint32(entry, uint32(len(entry)-4))
	for _, payload := range payloads {
		entry = append(entry, payload...)
	}
	return entry, nil
}

// EncodedSize is what an event with its payload adds to an entry, at most.
func EncodedSize(event *pb.Event, payload []byte) int {
	size := proto.Size(event)
	// The proposer still adds header fields: sequences and the payload's size.
	const header = 48
	return protowire.SizeBytes(size+header) + 1 + header + len(payload)
}

// CheckEntry refuses an entry that this program couldn't apply: it would stop
// every node that runs the same, at the same index, after each restart. Nor may
// it have events of a later version of the state: they would stop older ones.
func CheckEntry(entry []byte, version uint32) error {
	events, _, err := DecodeEntry(entry)
	if err != nil {
		return err
	}
	for _, event := range events {
		if event.Kind == nil && !event.Ignorable {
			return fmt.Errorf("%w: an event of a kind that this node doesn't know: is it older than the proposer?", ErrEntry)
		}
		if err := CheckVersion(event, version); err != nil {
			return err
		}
	}
	return nil
}

// DecodeEntry is the reverse of EncodeEntry. The payloads alias the entry.
func DecodeEntry(entry []byte) ([]*pb.Event, [][]byte, error) {
	if len(entry) < 4 {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrEntry, len(entry))
	}
	size := binary.BigEndian.Uint32(entry)
	rest := entry[4:]
	if uint64(size) > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("%w: batch of %d bytes in %d", ErrEntry, size, len(rest))
	}
	var batch pb.EventBatch
	if err := proto.Unmarshal(rest[:size], &batch); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	rest = rest[size:]
	payloads := make([][]byte, len(batch.Events))
	for i, event := range batch.Events {
		n := uint64(event.PayloadSize)
		if n > uint64(len(rest)) {
			return nil, nil, fmt.Errorf("%w: payload of event %d is cut short", ErrEntry, i)
		}
		payloads[i], rest = rest[:n:n], rest[n:]
	}
	if len(rest) != 0 {
		return nil, nil, fmt.Errorf("%w: %d bytes after the last payload", ErrEntry, len(rest))
	}
	return batch.Events, payloads, nil
}
