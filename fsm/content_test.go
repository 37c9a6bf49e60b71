package fsm

import (
	"bytes"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func TestPieceMustMatchItsChecksum(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.newID()
	event := &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
		MessageId: id[:], Crc32C: crc32.Checksum(testBody, castagnoli) + 1,
	}}}
	if r := w.fold(1, event, testBody); r.Code != pb.EventResult_CODE_INCOMPLETE {
		t.Errorf("a piece with a wrong checksum: %v", r)
	}
	checkState(t, w.state)
}

// acceptInPieces files a message whose body comes in pieces of a size.
func (w *world) acceptInPieces(whole []byte, size int) relay.MessageID {
	w.t.Helper()
	id := w.newID()
	event := accepted(id, nil, "a@b.test", "one@example.test")
	content := &pb.Content{Size: uint64(len(whole)), Crc32C: crc32.Checksum(whole, castagnoli)}
	for piece := range slices.Chunk(whole, size) {
		w.must(1, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
			MessageId: id[:], Piece: content.Pieces, Crc32C: crc32.Checksum(piece, castagnoli),
		}}}, piece)
		content.Pieces++
	}
	event.GetMessageAccepted().Content = content
	w.must(1, event, nil)
	return id
}

// A message ends while an attempt reads its body: the attempt reads on in the
// state that it began with.
func TestBodyOutlivesItsMessage(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	whole := bytes.Repeat([]byte("0123456789abcde\n"), 40_000)
	id := w.acceptInPieces(whole, MaxPiece)
	body, _, err := w.state.Body(id)
	if err != nil {
		t.Fatal(err)
	}
	w.must(1, delivered(nil, id, 0), nil)
	if n := w.state.digests[famContent].rows; n != 0 {
		t.Fatalf("%d rows of content after the end", n)
	}
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("%d bytes of %d: %v", len(got), len(whole), err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}
