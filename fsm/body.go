package fsm

import (
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// ErrBody is wrapped by the errors of a body that doesn't match its length or
// checksum. No part of such a body may be acknowledged by a remote.
var ErrBody = errors.New("the stored body doesn't match its length and checksum")

// body reads a message's content piece by piece: one piece in memory at a time.
// Before the end is reported, length and checksum have matched.
type body struct {
	view    *View
	owned   bool // the view is closed with the body
	id      relay.MessageID
	content *pb.Content
	sum     hash.Hash32
	next    uint32
	read    uint64
	piece   []byte
	closer  io.Closer // of the piece
	err     error
}

// Body opens a message's content as it is now, whatever happens to the message
// while it is read. Close it. ErrNotFound once the message has ended.
func (s *State) Body(id relay.MessageID) (io.ReadCloser, *pb.Content, error) {
	v, err := s.View()
	if err != nil {
		return nil, nil, err
	}
	b, err := v.body(id)
	if err != nil {
		return nil, nil, errors.Join(err, v.Close())
	}
	b.owned = true
	return b, b.content, nil
}

// Body opens a message's content. The view must outlive the reader.
func (v *View) Body(id relay.MessageID) (io.ReadCloser, *pb.Content, error) {
	b, err := v.body(id)
	if err != nil {
		return nil, nil, err
	}
	return b, b.content, nil
}

func (v *View) body(id relay.MessageID) (*body, error) {
	m, err := v.Message(id)
	if err != nil {
		return nil, err
	}
	if m.Open == 0 {
		return nil, fmt.Errorf("body of %s: %w", id, ErrNotFound)
	}
	b := &body{view: v, id: id, content: m.Content, sum: crc32.New(castagnoli)}
	if err := b.advance(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

func (b *body) pieces() uint32 { return max(1, b.content.Pieces) }

// advance fetches the next piece, or checks the whole at the end.
func (b *body) advance() error {
	if b.closer != nil {
		if err := b.closer.Close(); err != nil {
			return err
		}
		b.closer = nil
	}
	if b.next == b.pieces() {
		if b.read != b.content.Size || b.sum.Sum32() != b.content.Crc32C {
			return fmt.Errorf("%s: %w", b.id, ErrBody)
		}
		return io.EOF
	}
	piece, closer, err := b.view.snap.Get(keyOfPart(famContent, b.id, b.next))
	if errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("%s: piece %d: %w", b.id, b.next, ErrBody)
	}
	if err != nil {
		return fmt.Errorf("read piece %d of %s: %w", b.next, b.id, err)
	}
	b.piece, b.closer = piece, closer
	b.next++
	b.read += uint64(len(piece))
	b.sum.Write(piece)
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	for len(b.piece) == 0 && b.err == nil {
		b.err = b.advance()
	}
	if len(b.piece) == 0 {
		return 0, b.err
	}
	n := copy(p, b.piece)
	b.piece = b.piece[n:]
	return n, nil
}

// Close releases the piece in memory and the state.
func (b *body) Close() error {
	var err error
	if b.closer != nil {
		err = b.closer.Close()
		b.closer = nil
	}
	b.piece, b.err = nil, io.ErrClosedPipe
	if b.owned {
		err = errors.Join(err, b.view.Close())
		b.owned = false
	}
	return err
}
