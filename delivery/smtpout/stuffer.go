package smtpout

import (
	"bytes"
	"errors"
)

// errBareLF guards the peer: some take LF for a line end and would read a
// second message out of this one (SMTP smuggling).
var errBareLF = errors.New("bare LF before a dot")

// stuffer puts a dot before each line that begins with one (RFC 5321 section
// 4.5.2). It holds the last two octets, so that blocks may end anywhere.
type stuffer struct{ last [2]byte }

// newStuffer stands at the beginning of a line.
func newStuffer() stuffer { return stuffer{last: [2]byte{'\r', '\n'}} }

func (s *stuffer) append(out, p []byte) ([]byte, error) {
	if len(p) == 0 {
		return out, nil
	}
	if p[0] == '.' && s.last[1] == '\n' {
		if s.last[0] != '\r' {
			return out, errBareLF
		}
		out = append(out, '.')
	}
	before := s.last[1]
	for rest := p; ; {
		i := bytes.Index(rest, []byte("\n."))
		if i < 0 {
			out = append(out, rest...)
			break
		}
		if i > 0 {
			before = rest[i-1]
		}
		if before != '\r' {
			return out, errBareLF
		}
		out = append(append(out, rest[:i+1]...), '.')
		rest, before = rest[i+1:], '\n'
	}
	if len(p) > 1 {
		s.last[1] = p[len(p)-2]
	}
	s.last = [2]byte{s.last[1], p[len(p)-1]}
	return out, nil
}

// end adds the final dot, and before it the CRLF that a last line may lack.
func (s *stuffer) end(out []byte) []byte {
	if s.last != [2]byte{'\r', '\n'} {
		out = append(out, "\r\n"...)
	}
	return append(out, ".\r\n"...)
}
