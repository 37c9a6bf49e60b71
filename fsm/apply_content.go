package fsm

import (
	"encoding/binary"
	"hash/crc32"

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
	upload := t.s.uploads[id]
	if upload != nil && upload.Incarnation != t.event.Incarnation {
		return stale("upload %s belongs to another incarnation", id)
	}
	t.putUpload(id, &pb.UploadRecord{
		Incarnation: t.event.Incarnation,
		Pieces:      upload.GetPieces() + 1,
		Bytes:       upload.GetBytes() + uint64(len(t.payload)),
	})
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
	upload := t.s.uploads[id]
	if upload == nil {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no upload %s", id)
	}
	if !t.dropUpload(id, maxAbandoned) {
		// The rest goes with the next entries, also after a restart: no session
		// has incarnation 0.
		t.putUpload(id, &pb.UploadRecord{Pieces: upload.Pieces, Bytes: upload.Bytes})
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
	t.removeUpload(id)
	return true
}
