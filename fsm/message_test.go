package fsm

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

const (
	pending   = pb.RecipientState_RECIPIENT_STATE_PENDING
	held      = pb.RecipientState_RECIPIENT_STATE_HELD
	done      = pb.RecipientState_RECIPIENT_STATE_DELIVERED
	returned  = pb.RecipientState_RECIPIENT_STATE_BOUNCED
	frozenSt  = pb.RecipientState_RECIPIENT_STATE_FROZEN
	deletedSt = pb.RecipientState_RECIPIENT_STATE_DELETED
	codeOK    = pb.EventResult_CODE_OK
	codeStale = pb.EventResult_CODE_STALE
)

func TestMessageFromAcceptanceToDelivery(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test", "two@example.test")
	w.checkConsistent()

	due := w.waiting("dest")
	if len(due) != 2 || due[0].ID != id || !due[0].At.Equal(w.now) {
		t.Fatalf("waiting: %v", due)
	}
	w.must(1, claimOf(1, id, 0, 1), nil)
	if changes := w.state.TakeChanges(); len(changes.Granted) != 1 || len(changes.Granted[0].Record.Recipients) != 2 {
		t.Fatalf("granted: %+v", changes.Granted)
	}
	if due := w.waiting("dest"); len(due) != 0 {
		t.Fatalf("claimed recipients still wait: %v", due)
	}
	body, content, err := w.state.Body(id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, testBody) || content.Size != uint64(len(testBody)) {
		t.Fatalf("body %q: %v", got, err)
	}
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}

	next := w.now.Add(time.Minute)
	w.must(1, delivered(ref(1, 1), id, 0), nil)
	w.must(1, deferred(ref(1, 1), id, next, 1), nil)
	w.checkConsistent()
	if r := w.recipientOf(id, 1); r.State != pending || r.Attempts != 1 || r.NextAttempt != next.UnixNano() || r.Claim != nil {
		t.Fatalf("deferred recipient: %v", r)
	}
	if c := w.view().DomainCounter("example.test"); c.Pending != 1 || c.Delivered != 1 {
		t.Fatalf("counters: %v", c)
	}
	w.must(1, claimOf(2, id, 1), nil)
	w.must(1, delivered(ref(1, 2), id, 1), nil)
	w.checkConsistent()

	v := w.view()
	if _, _, err := v.Body(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("the body of an ended message: %v", err)
	}
	m, err := v.Message(id)
	if err != nil || m.Open != 0 || m.EndedAt != w.now.UnixNano() {
		t.Errorf("ended message: %v %v", m, err)
	}
	history, err := v.History(id, Position{}, math.MaxInt)
	if err != nil || len(history) != 4 || history[0].Record.Kind != pb.HistoryRecord_KIND_ACCEPTED ||
		history[3].Record.Kind != pb.HistoryRecord_KIND_DELIVERED {
		t.Errorf("history: %v %v", history, err)
	}
	if ids, _, _ := v.Queue(Filter{}, nil, 10); len(ids) != 0 {
		t.Errorf("queue after the end: %v", ids)
	}
	for _, f := range []Filter{{}, {To: "ONE@example.test"}, {From: "sender@elsewhere.test"}, {Domain: "example.test"}, {To: "*@example.test"}} {
		if ids, _, err := v.Log(f, nil, 10); len(ids) != 1 || err != nil {
			t.Errorf("log %+v: %v %v", f, ids, err)
		}
	}
}

func TestBodyInPieces(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	whole := bytes.Repeat([]byte("0123456789abcde\n"), 40_000) // 640,000 bytes
	id := w.newID()
	appendPiece := func(n uint32, piece []byte) *pb.EventResult {
		return w.fold(1, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
			MessageId: id[:], Piece: n, Crc32C: crc32.Checksum(piece, castagnoli),
		}}}, piece)
	}
	appendPiece(1, whole[MaxPiece:2*MaxPiece])
	appendPiece(0, whole[:MaxPiece])
	event := accepted(id, nil, "a@b.test", "one@example.test")
	event.GetMessageAccepted().Content = &pb.Content{
		Size: uint64(len(whole)), Pieces: 3, Crc32C: crc32.Checksum(whole, castagnoli),
	}
	if r := w.fold(1, event, nil); r.Code != pb.EventResult_CODE_INCOMPLETE {
		t.Fatalf("acceptance with a piece missing: %v", r)
	}
	appendPiece(2, whole[2*MaxPiece:])
	event.Sequence = 0
	w.must(1, event, nil)
	w.checkConsistent()
	body, _, err := w.state.Body(id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, whole) {
		t.Fatalf("%d bytes of %d: %v", len(got), len(whole), err)
	}
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
	w.must(1, claimOf(1, id, 0), nil)
	w.must(1, delivered(ref(1, 1), id, 0), nil)
	w.checkConsistent()
	if n := w.state.digests[famContent].rows; n != 0 {
		t.Errorf("%d rows of content after the end", n)
	}
}

func TestUploadsOfADeadNodeGoInSteps(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.up("b", 2, 0)
	w.configure(1)
	id := w.newID()
	const pieces = 3*sweepPieces + 1
	for n := range uint32(pieces) {
		w.must(2, &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
			MessageId: id[:], Piece: n, Crc32C: crc32.Checksum([]byte{1}, castagnoli),
		}}}, []byte{1})
	}
	w.down("b", 2)
	if n := w.state.digests[famPieces].rows; n != pieces-sweepPieces {
		t.Errorf("%d pieces after the node's end, want %d", n, pieces-sweepPieces)
	}
	for range 3 {
		w.accept(1, "one@example.test")
	}
	w.checkConsistent()
	if n := w.state.digests[famPieces].rows; n != 0 {
		t.Errorf("%d pieces left", n)
	}
}

// The domain that the proposer names stands for an address that has it in
// another form; the address itself is kept.
func TestNamedDomainRoutes(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.must(1, destinationSet("dest"), nil)
	w.must(1, domainSet("xn--bcher-kva.example", "dest"), nil)
	id := w.newID()
	event := accepted(id, testBody, "boss@example.test", "x@bücher.example")
	if result := w.fold(1, event, testBody); result.Code != pb.EventResult_CODE_UNROUTABLE {
		t.Fatalf("without a named domain: %v", result)
	}
	event = accepted(id, testBody, "boss@example.test", "x@bücher.example")
	event.GetMessageAccepted().Recipients[0].Domain = "xn--bcher-kva.example"
	w.must(1, event, testBody)
	r := w.recipientOf(id, 0)
	if r.Domain != "xn--bcher-kva.example" || r.Destination != "dest" || r.Recipient.Address != "x@bücher.example" {
		t.Errorf("recipient: %v", r)
	}
	checkState(t, w.state)
}
