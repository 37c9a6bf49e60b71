package smtpd

import (
	"context"
	"errors"
	"hash/crc32"
	"sync/atomic"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// piecesUnderWay is how many pieces of a body may wait for their outcome.
const piecesUnderWay = 2

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTooMuch ends a session whose client goes on and on after its content was
// refused.
var errTooMuch = errors.New("content goes on after it was refused")

// body is the content of one message while it arrives. It belongs to its
// session; only the proposals of pieces run beside it.
type body struct {
	server *Server
	id     relay.MessageID
	// refusal is why the content won't be taken. The rest is read and dropped.
	refusal *relay.Reply

	limit    int64   // of received, as it was when the body began
	buf      *buffer // being filled, nil once the body is settled
	size     uint64  // with the Received header
	crc      uint32  // CRC-32C of all of it
	received int64   // what the client sent
	ends     lineEnds
	headers  headerScan

	pieces   uint32        // proposed so far
	underWay chan struct{} // a token per piece whose outcome isn't known
	failed   atomic.Bool   // a piece wasn't taken
}

// newBody begins a body with the header that goes in front of it.
func (s *Server) newBody(id relay.MessageID, received []byte) *body {
	b := &body{server: s, id: id, limit: s.cfg.messageSize(), buf: s.buffers.getShort(), underWay: make(chan struct{}, piecesUnderWay)}
	b.store(received)
	return b
}

// write takes the next part of the content. It fails only where reading on
// makes no sense; a refused body goes on to be read to its end.
func (b *body) write(p []byte) error {
	b.received += int64(len(p))
	b.server.metrics.receivedBytes.Add(float64(len(p)))
	if b.refusal == nil {
		b.check(p)
	}
	if b.refusal == nil {
		b.store(p)
	} else if b.received > 2*b.limit {
		return errTooMuch
	}
	return nil
}

func (b *body) check(p []byte) {
	b.ends.add(p)
	b.headers.add(p)
	switch {
	case b.received > b.limit:
		b.refuse(tooLarge)
	case b.ends.bare:
		b.refuse(bareLineEnd)
	case b.headers.received > maxReceived:
		b.refuse(mailLoop)
	}
}

// refuse settles the body: nothing of it is kept.
func (b *body) refuse(r *relay.Reply) {
	b.refusal = r
	b.drop()
}

// store appends to the buffer, which is sent ahead whenever it is full and more
// comes.
func (b *body) store(p []byte) {
	b.size += uint64(len(p))
	b.crc = crc32.Update(b.crc, castagnoli, p)
	for len(p) > 0 {
		room := cap(b.buf.data) - len(b.buf.data)
		if room == 0 {
			if !b.moreRoom() {
				return
			}
			continue
		}
		n := min(room, len(p))
		b.buf.data = append(b.buf.data, p[:n]...)
		p = p[n:]
	}
}

// moreRoom changes a short buffer for a large one, and sends a large one off.
func (b *body) moreRoom() bool {
	if cap(b.buf.data) == pieceSize && (!b.hasDisk() || !b.sendPiece(b.server.proposing)) {
		return false
	}
	large, err := b.server.buffers.getLarge(b.server.proposing, b.server.cfg.AcceptTimeout)
	if err != nil {
		b.server.metrics.bodyBuffersRefused.Inc()
		b.refuse(noMemory)
		return false
	}
	if b.buf != nil {
		large.data = append(large.data, b.buf.data...)
		b.server.buffers.put(b.buf)
	}
	b.buf = large
	return true
}

// hasDisk refuses what is under way, too, once the disks have reached their reserve: a
// thousand such messages may be larger than that, and what the log can't be written for
// ends the nodes. A quorum that is gone right now may be back by the end.
func (b *body) hasDisk() bool {
	closed := b.server.cfg.Gate.Check()
	if closed == nil || closed.Code != 452 {
		return true
	}
	b.refuse(closed)
	return false
}

// sendPiece proposes the buffer as the next piece and gives the buffer away. ctx
// and AcceptTimeout bound the wait for an earlier piece only.
func (b *body) sendPiece(ctx context.Context) bool {
	if err := acquire(ctx, b.underWay, b.server.cfg.AcceptTimeout); err != nil || b.failed.Load() {
		if err == nil {
			<-b.underWay
		}
		b.refuse(notNow)
		return false
	}
	piece, buf := b.pieces, b.buf
	b.pieces++
	b.buf = nil
	b.server.proposals.Go(func() {
		b.proposePiece(piece, buf)
		<-b.underWay
	})
	return true
}

// proposePiece runs beside the session. It has no deadline of its own: the
// session gives up waiting when it likes, but pieces are abandoned only after
// the outcome of each is known, so that none is stored after that.
func (b *body) proposePiece(piece uint32, buf *buffer) {
	event := b.server.newEvent()
	event.Kind = &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
		MessageId: b.id[:],
		Piece:     piece,
		Crc32C:    crc32.Checksum(buf.data, castagnoli),
	}}
	result, err := b.server.cfg.Proposer.Propose(b.server.proposing, event, buf.data)
	if err != nil {
		b.failed.Store(true)
		b.server.buffers.forget(buf)
		b.server.log.Warn("piece of a message not stored", "id", b.id.String(), "piece", piece, "error", err)
		return
	}
	if result.GetCode() != pb.EventResult_CODE_OK {
		b.failed.Store(true)
		b.server.log.Warn("piece of a message refused", "id", b.id.String(), "piece", piece, "code", result.GetCode(), "text", result.GetText())
	}
	b.server.buffers.put(buf)
}

// finish ends the content, which was read to its end, and waits until all
// pieces are stored. A refusal is the final reply and leaves nothing behind.
func (b *body) finish(ctx context.Context) *relay.Reply {
	if b.refusal == nil && b.ends.wrong() {
		b.refuse(bareLineEnd)
	}
	if b.refusal == nil && b.pieces > 0 && b.sendPiece(ctx) && !b.stored(ctx) {
		b.refuse(notNow)
	}
	return b.refusal
}

// stored waits for the pieces under way and reports whether all were taken.
func (b *body) stored(ctx context.Context) bool {
	for range cap(b.underWay) {
		select {
		case b.underWay <- struct{}{}:
			defer func() { <-b.underWay }()
		case <-ctx.Done():
			return false
		}
	}
	return !b.failed.Load()
}

// payload is the body where it rides in its acceptance, else nil.
func (b *body) payload() []byte {
	if b.pieces > 0 {
		return nil
	}
	return b.buf.data
}

// content describes the body for MessageAccepted.
func (b *body) content() *pb.Content {
	return &pb.Content{Size: b.size, Crc32C: b.crc, Pieces: b.pieces}
}

// drop gives the buffer back and has the pieces abandoned. It may be called
// on a body that is settled already.
func (b *body) drop() {
	b.release(true)
	if b.pieces > 0 {
		pieces := b.pieces
		b.pieces = 0
		b.server.abandonAfter(b, pieces)
	}
}

// release gives the buffer back, for reuse only if no proposal may still read
// it.
func (b *body) release(reuse bool) {
	if b.buf == nil {
		return
	}
	if reuse {
		b.server.buffers.put(b.buf)
	} else {
		b.server.buffers.forget(b.buf)
	}
	b.buf = nil
}

// newEvent is an event stamped with the time.
func (s *Server) newEvent() *pb.Event {
	return &pb.Event{Time: s.cfg.Now().UnixNano()}
}

// untilOutcome bounds the wait for the cluster after the content's end.
func (s *Server) untilOutcome() (context.Context, context.CancelFunc) {
	return context.WithDeadline(s.proposing, time.Now().Add(s.cfg.AcceptTimeout))
}
