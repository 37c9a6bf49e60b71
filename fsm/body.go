package fsm

import (
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// ErrBody is wrapped by the errors of a body that doesn't match its length or
// checksum, or that the disk doesn't give back. No part of such a body may be
// acknowledged by a remote.
var ErrBody = errors.New("the stored body is damaged")

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
	if err := b.release(); err != nil {
		return err
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
		return b.unreadable(err)
	}
	b.piece, b.closer = piece, closer
	if len(piece) == 0 {
		// It is an empty one, or one that can't be read: see readValue.
		if err := b.release(); err != nil {
			return err
		}
	}
	b.next++
	b.read += uint64(len(piece))
	b.sum.Write(piece)
	return nil
}

// release gives back the piece in memory.
func (b *body) release() error {
	if b.closer == nil {
		return nil
	}
	err := b.closer.Close()
	b.closer = nil
	if err != nil {
		return b.unreadable(err)
	}
	return nil
}

// unreadable is a read of the present piece that failed: damage to this body, found by
// Pebble's own checksums or the disk itself, unless this process lacks what it needs to
// read anything at all.
func (b *body) unreadable(err error) error {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) {
		return fmt.Errorf("read piece %d of %s: %w", b.next, b.id, err)
	}
	return fmt.Errorf("read piece %d of %s: %w: %w", b.next, b.id, ErrBody, err)
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
	err := b.release()
	b.piece, b.err = nil, io.ErrClosedPipe
	if b.owned {
		err = errors.Join(err, b.view.Close())
		b.owned = false
	}
	return err
}
