package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// bodyPiece is how much of a body one response carries.
const bodyPiece = 64 << 10

// ReadBody logs who reads what before the first byte goes out: it is other
// people's mail. A caller who is limited to domains reads what has a recipient
// there: all its recipients got the same, and what it was addressed to in SMTP is
// no part of it. The log of the node has it rather than the message's history,
// so that mail can be looked at without a quorum.
func (s *queueService) ReadBody(req *pb.ReadBodyRequest, stream grpc.ServerStreamingServer[pb.ReadBodyResponse]) error {
	id, err := messageID(req.Id)
	if err != nil {
		return err
	}
	w, err := s.window(stream.Context())
	if err != nil {
		return err
	}
	defer w.release()
	record, _, err := w.read(id)
	if err != nil {
		return err
	}
	body, _, err := w.Body(id)
	if errors.Is(err, fsm.ErrNotFound) {
		return notFound("body", req.Id, fmt.Sprintf("message %s has ended at %s and its body is gone", id, stamp(record.EndedAt)))
	}
	if err != nil {
		return readError(err, "the body of "+id.String())
	}
	defer body.Close()
	s.Logger.Info("message read", "id", id, "by", operatorOf(stream.Context()), "headers_only", req.HeadersOnly, "request", requestOf(stream.Context()).id)
	var reader io.Reader = body
	if req.HeadersOnly {
		reader = &headers{Reader: body}
	}
	buffer := make([]byte, bodyPiece)
	for {
		n, err := io.ReadFull(reader, buffer)
		if n > 0 {
			if err := stream.Send(&pb.ReadBodyResponse{Data: buffer[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return readError(err, "the body of "+id.String())
		}
	}
}

// headers reads a message up to the empty line after its headers
// (RFC 5322 section 2.1).
type headers struct {
	io.Reader
	tail  []byte // the last bytes read, in which the end may begin
	ended bool
}

var endOfHeaders = []byte("\r\n\r\n")

func (h *headers) Read(p []byte) (int, error) {
	if h.ended {
		return 0, io.EOF
	}
	n, err := h.Reader.Read(p)
	seen := append(h.tail, p[:n]...)
	if at := bytes.Index(seen, endOfHeaders); at >= 0 {
		h.ended = true
		n -= len(seen) - at - len(endOfHeaders)
		return n, nil
	}
	h.tail = bytes.Clone(seen[max(0, len(seen)-len(endOfHeaders)+1):])
	return n, err
}
