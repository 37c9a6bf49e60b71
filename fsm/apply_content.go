package fsm

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// castagnoli is CRC-32C, the checksum of bodies and pieces.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxAbandoned is how many pieces one event deletes at most.
const maxAbandoned = 1000

// contentAppended stores a piece. Pieces may come in any order; the acceptance
// checks that they are all there.
func (t *tx) contentAppended(e *pb.ContentAppended) *pb.EventResult {
	id, err := relay.MessageIDFromBytes(e.MessageId)
	if err != nil {
		return invalid("content: %v", err)
	}
	if len(t.payload) == 0 || len(t.payload) > MaxPiece {
		return invalid("piece %d of %s has %d bytes", e.Piece, id, len(t.payload))
	}
	if crc32.Checksum(t.payload, castagnoli) != e.Crc32C {
		return refused(pb.EventResult_CODE_INCOMPLETE, "piece %d of %s doesn't match its checksum", e.Piece, id)
	}
	key := keyOfPart(famPieces, id, e.Piece)
	if t.get(key) != nil || t.get(keyOfID(famMessages, id)) != nil {
		return stale("piece %d of %s is stored already", e.Piece, id)
	}
	upload := &pb.UploadRecord{}
	raw := t.load(keyOfID(famUploads, id), upload)
	if raw != nil && upload.Incarnation != t.event.Incarnation {
		return stale("upload %s belongs to another incarnation", id)
	}
	upload.Incarnation = t.event.Incarnation
	upload.Pieces++
	upload.Bytes += uint64(len(t.payload))
	t.put(keyOfID(famUploads, id), raw, encode(upload))
	t.put(key, nil, encode(&pb.PieceRecord{Size: uint32(len(t.payload)), Crc32C: e.Crc32C}))
	t.putContent(keyOfPart(famContent, id, e.Piece), t.payload, e.Crc32C)
	return resultOK
}

// contentAbandoned deletes an upload whose message will not come.
func (t *tx) contentAbandoned(e *pb.ContentAbandoned) *pb.EventResult {
	id, err := relay.MessageIDFromBytes(e.MessageId)
	if err != nil {
		return invalid("content: %v", err)
	}
	upload := &pb.UploadRecord{}
	raw := t.load(keyOfID(famUploads, id), upload)
	if raw == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no upload %s", id)
	}
	if !t.dropUpload(id, maxAbandoned) {
		// The rest goes with the next entries, also after a restart: no session
		// has incarnation 0.
		upload.Incarnation = 0
		t.put(keyOfID(famUploads, id), raw, encode(upload))
		t.s.orphans.add(id)
		return resultOK
	}
	// A node that restarts now doesn't find it among the uploads.
	delete(t.s.orphans, id)
	return resultOK
}

// dropUpload deletes at most limit pieces of an upload, and the upload with the
// last of them; it reports whether that was all.
func (t *tx) dropUpload(id relay.MessageID, limit int) bool {
	keys := t.keysOf(keyOfID(famPieces, id), limit)
	for _, key := range keys {
		t.removePiece(id, binary.BigEndian.Uint32(key[len(key)-4:]))
	}
	if len(keys) == limit {
		return false
	}
	key := keyOfID(famUploads, id)
	if raw := t.get(key); raw != nil {
		t.remove(key, raw)
	}
	return true
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
		if !found || string(id[:]) < string(lowest[:]) {
			lowest, found = id, true
		}
	}
	return lowest
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

// orphanUploads makes the open uploads of an ended incarnation orphans.
func (t *tx) orphanUploads(incarnation uint64) {
	t.failedIf(scan(t.batch, []byte{byte(famUploads)}, func(key, value []byte) error {
		var upload pb.UploadRecord
		if err := proto.Unmarshal(value, &upload); err != nil {
			return err
		}
		if upload.Incarnation == incarnation {
			t.s.orphans.add(relay.MessageID(key[1:]))
		}
		return nil
	}))
}

// loadOrphans finds the uploads whose incarnation has ended.
func loadOrphans(db pebble.Reader, sessions map[uint64]*session) (orphans, error) {
	found := make(orphans)
	err := scan(db, []byte{byte(famUploads)}, func(key, value []byte) error {
		var upload pb.UploadRecord
		if err := proto.Unmarshal(value, &upload); err != nil {
			return err
		}
		if sessions[upload.Incarnation] == nil {
			found.add(relay.MessageID(key[1:]))
		}
		return nil
	})
	return found, err
}
