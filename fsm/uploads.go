package fsm

import (
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// uploads are the bodies without their acceptance yet. They are few, as many as
// clients send at this moment, so they are kept in memory beside their rows:
// every acceptance asks for its own, and nearly always there is none.
type uploads map[relay.MessageID]*pb.UploadRecord

func loadUploads(db pebble.Reader) (uploads, error) {
	found := make(uploads)
	err := scan(db, []byte{byte(famUploads)}, func(key, value []byte) error {
		record := &pb.UploadRecord{}
		found[relay.MessageID(key[1:])] = record
		return proto.Unmarshal(value, record)
	})
	return found, err
}

func (t *tx) putUpload(id relay.MessageID, record *pb.UploadRecord) {
	var old []byte
	if before := t.s.uploads[id]; before != nil {
		old = encode(before)
	}
	t.put(keyOfID(famUploads, id), old, encode(record))
	t.s.uploads[id] = record
}

func (t *tx) removeUpload(id relay.MessageID) {
	if before := t.s.uploads[id]; before != nil {
		t.remove(keyOfID(famUploads, id), encode(before))
		delete(t.s.uploads, id)
	}
}

// orphans are uploads that nobody will finish. Each entry of the log deletes a
// few of their pieces, so that a node's death with many open uploads delays no
// entry for long. The order is that of the ids: it is the same on every node,
// also on one that has restarted.
type orphans map[relay.MessageID]bool

func (o orphans) add(id relay.MessageID) { o[id] = true }

func (o orphans) first() relay.MessageID {
	var lowest relay.MessageID
	found := false
	for id := range o {
		if !found || slices.Compare(id[:], lowest[:]) < 0 {
			lowest, found = id, true
		}
	}
	return lowest
}

// orphaned finds the uploads whose incarnation has ended.
func (u uploads) orphaned(sessions map[uint64]*session) orphans {
	found := make(orphans)
	for id, record := range u {
		if sessions[record.Incarnation] == nil {
			found.add(id)
		}
	}
	return found
}

// orphanUploads makes the open uploads of an ended incarnation orphans.
func (t *tx) orphanUploads(incarnation uint64) {
	for id, record := range t.s.uploads {
		if record.Incarnation == incarnation {
			t.s.orphans.add(id)
		}
	}
}

// sweepPieces is how many pieces of orphans go with each entry.
const sweepPieces = 64

func (t *tx) sweepOrphans() {
	if len(t.s.orphans) == 0 {
		return
	}
	id := t.s.orphans.first()
	if t.dropUpload(id, sweepPieces) {
		delete(t.s.orphans, id)
	}
}
