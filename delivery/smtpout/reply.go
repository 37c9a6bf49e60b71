package smtpout

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"holdfast/relay"
)

// Limits of what a peer may answer. RFC 5321 section 4.5.3.1.5 allows 512
// octets a line; real servers write longer ones.
const (
	maxReplyLine = 4 << 10
	maxReply     = 64 << 10
	maxText      = 1 << 10 // of a reply's text that is kept
)

// errProtocol is what a reply is that no SMTP server should give.
var errProtocol = errors.New("the remote broke the SMTP protocol")

// reply is one reply of the peer. text shares the buffer that it was read into
// and is good until the next read; its lines are ended by \n.
type reply struct {
	code int
	text []byte
}

func (r reply) positive() bool { return r.code/100 == 2 }
func (r reply) refused() bool  { return r.code >= 400 }

// readReply reads one reply into text (RFC 5321 section 4.2.1). Line ends may
// be bare LF. Where lines differ in their codes, the last one's holds.
func readReply(r *bufio.Reader, text []byte) (reply, error) {
	text = text[:0]
	for size := 0; ; {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxReplyLine {
			return reply{}, fmt.Errorf("%w: reply line over %d octets", errProtocol, maxReplyLine)
		}
		if err != nil {
			return reply{}, err
		}
		if size += len(line); size > maxReply {
			return reply{}, fmt.Errorf("%w: reply over %d octets", errProtocol, maxReply)
		}
		line = bytes.TrimRight(line, "\r\n")
		code, more, rest, ok := parseLine(line)
		if !ok {
			return reply{}, fmt.Errorf("%w: reply %q", errProtocol, line[:min(len(line), 80)])
		}
		text = append(append(text, rest...), '\n')
		if !more {
			return reply{code: code, text: text}, nil
		}
	}
}

// parseLine splits "250-text". A code alone is a whole line too (RFC 5321
// section 4.2.1 has clients accept it).
func parseLine(line []byte) (code int, more bool, text []byte, ok bool) {
	if len(line) < 3 {
		return 0, false, nil, false
	}
	for _, digit := range line[:3] {
		if digit < '0' || digit > '9' {
			return 0, false, nil, false
		}
		code = code*10 + int(digit-'0')
	}
	if code < 200 || code > 599 {
		return 0, false, nil, false
	}
	if len(line) == 3 {
		return code, false, nil, true
	}
	switch line[3] {
	case ' ':
		return code, false, line[4:], true
	case '-':
		return code, true, line[4:], true
	}
	return 0, false, nil, false
}

// reply in the vocabulary of relay: its lines joined by spaces, at most
// maxText octets, without control characters, and with the enhanced code (RFC
// 2034) that may stand at the head of each line taken out.
func (r reply) relay() relay.Reply {
	out := relay.Reply{Code: r.code}
	var b strings.Builder
	for line := range bytes.Lines(r.text) {
		enhanced, rest := cutEnhanced(r.code, bytes.TrimSpace(line))
		if out.Enhanced == "" {
			out.Enhanced = enhanced
		}
		if b.Len() > 0 && len(rest) > 0 {
			b.WriteByte(' ')
		}
		b.Write(rest)
		if b.Len() > maxText {
			break
		}
	}
	out.Text = printable(b.String())
	return out
}

// cutEnhanced takes a code such as 4.2.2 off a line, if its class is that of
// the reply (RFC 2034 section 4).
func cutEnhanced(code int, line []byte) (enhanced string, rest []byte) {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	class, numbers, found := bytes.Cut(word, []byte("."))
	subject, detail, found2 := bytes.Cut(numbers, []byte("."))
	if !found || !found2 || len(class) != 1 || int(class[0]-'0') != code/100 {
		return "", line
	}
	if !number(subject) || !number(detail) {
		return "", line
	}
	return string(word), bytes.TrimSpace(rest)
}

// number is one to three digits (RFC 3463 section 2).
func number(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) >= 1 && len(b) <= 3
}

// printable makes the peer's text fit for logs, reports and protobuf.
func printable(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "?")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
