package smtpd

import (
	"bufio"
	"errors"
	"slices"
	"strconv"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// maxEnvelope bounds what MAIL and RCPT add to an event, in bytes; with the
// longest body in the same event it stays within the 384 KiB of an event.
const (
	maxEnvelope = 128 << 10
	// envelopeBase is set aside for the origin, the Message-ID and the rest.
	envelopeBase = 3 << 10
	// recipientBase is what a recipient takes besides its strings.
	recipientBase = 18
)

// transaction is one message from MAIL on.
type transaction struct {
	envelope   *pb.Envelope
	recipients []*pb.Recipient
	size       int   // of the envelope, in bytes
	declared   int64 // SIZE of the content, 0 where not given
	deferred   bool  // a recipient was refused with 4xx
	body       *body // once BDAT has begun
	// refused is why a chunk wasn't taken: none of those behind it is either.
	refused   *relay.Reply
	rules     spamRules
	verifying time.Duration // spent on the verification of recipients
}

// add takes a recipient into the envelope, once if it is named twice.
func (tx *transaction) add(recipient *pb.Recipient, limit int) *relay.Reply {
	again := slices.ContainsFunc(tx.recipients, func(other *pb.Recipient) bool {
		return other.Address == recipient.Address
	})
	if again {
		return nil
	}
	size := tx.size + recipientBase + len(recipient.Address) + len(recipient.Domain) + len(recipient.Notify) + len(recipient.Orcpt)
	if len(tx.recipients) >= limit || size > maxEnvelope {
		return tooManyRcpts
	}
	tx.size = size
	tx.recipients = append(tx.recipients, recipient)
	return nil
}

// readyForContent is the refusal where there is no one to send content to.
func (s *session) readyForContent() *relay.Reply {
	switch {
	case s.tx == nil:
		return badSequence
	case len(s.tx.recipients) > 0:
		return nil
	case s.tx.deferred:
		// A client that looks at this reply alone must come again.
		return reply(451, "4.5.1", "no recipient could be taken for now")
	}
	return reply(503, "5.5.1", "no valid recipient")
}

func (s *session) data(rest string) (*relay.Reply, error) {
	if rest != "" {
		return reply(501, "5.5.4", "DATA takes no argument"), nil
	}
	refusal := s.readyForContent()
	if refusal == nil && s.tx.body != nil {
		// RFC 3030 section 2: BDAT and DATA don't mix.
		refusal = badSequence
	}
	if refusal == nil {
		refusal = s.tx.refused
	}
	if refusal == nil {
		refusal = s.beginBody()
	}
	if refusal != nil {
		return refusal, nil
	}
	s.reply(reply(354, "", "send the message, end with CRLF.CRLF"))
	if refusal, err := s.readContent(readDots); err != nil {
		return refusal, err
	}
	return s.endBody(), nil
}

// smallChunk is the size in octets below which a chunk counts as a command as any other.
const smallChunk = 1 << 10

func (s *session) bdat(rest string) (*relay.Reply, error) {
	size, last, refusal := parseBDAT(rest)
	if refusal != nil {
		// Without its size the chunk can't be told from commands.
		return refusal, errClose
	}
	refusal = s.readyForContent()
	if refusal == nil && s.tx.body == nil {
		if refusal = s.beginChunks(); refusal != nil && last {
			s.tx = nil
		}
	}
	if refusal != nil {
		return s.skipChunk(size, refusal)
	}
	read := func(br *bufio.Reader, sink func([]byte) error) error { return readChunk(br, size, sink) }
	if refusal, err := s.readContent(read); err != nil {
		return refusal, err
	}
	if !last && s.tx.body.refusal == nil {
		if size >= smallChunk {
			s.commands-- // it is content: RFC 3030 leaves it to the client in how many chunks that comes
		}
		return reply(250, "2.0.0", strconv.FormatUint(size, 10)+" octets received"), nil
	}
	return s.endBody(), nil
}

// beginChunks begins a body, unless an earlier chunk of it was refused. The client may
// have sent all of them at once (RFC 3030 section 2): what is behind the first would
// else be taken for the whole message once the gate is open.
func (s *session) beginChunks() *relay.Reply {
	if s.tx.refused == nil {
		s.tx.refused = s.beginBody()
	}
	return s.tx.refused
}

// skipChunk reads a chunk that won't be taken: it follows its command whatever
// the answer (RFC 3030 section 2).
func (s *session) skipChunk(size uint64, refusal *relay.Reply) (*relay.Reply, error) {
	if size > uint64(2*s.server.cfg.messageSize()) {
		return refusal, errClose
	}
	s.conn.beginContent()
	err := readChunk(s.conn.br, size, func([]byte) error { return nil })
	if err != nil {
		return nil, err
	}
	s.conn.endContent()
	return refusal, nil
}

// beginBody names the message and puts its trace header in front. The gate is asked
// before: nobody is to send a gigabyte for a 451, nor be refused for good by the
// largest size of a state that may be old.
func (s *session) beginBody() *relay.Reply {
	if closed := s.server.cfg.Gate.Check(); closed != nil {
		return closed
	}
	now := s.server.cfg.Now()
	id, err := relay.NewMessageID(now, s.server.cfg.Entropy)
	if err != nil {
		s.log.Error("message can't be named", "error", err)
		return notNow
	}
	header := receivedHeader(s.origin(s.tx), s.client, s.server.cfg.Hostname, id, s.tx.recipients, now)
	s.tx.body = s.server.newBody(id, header)
	s.tx.rules = s.spamRules(s.tx)
	s.tx.body.headers.watch(s.tx.rules)
	return nil
}

// readContent has the body filled. An error leaves the connection out of step
// and ends the session, with the refusal, if any, as its last word.
func (s *session) readContent(read func(*bufio.Reader, func([]byte) error) error) (*relay.Reply, error) {
	s.conn.beginContent()
	err := read(s.conn.br, s.tx.body.write)
	if errors.Is(err, errTooMuch) {
		return s.tx.body.refusal, errClose
	}
	if err != nil {
		return nil, err
	}
	s.conn.endContent()
	return nil, nil
}

// endBody decides on a message that is complete, or refused.
func (s *session) endBody() *relay.Reply {
	final := s.accept(s.tx)
	s.tx = nil
	return final
}
