package smtpd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

var crlfDot = []byte("\r\n.")

// readDots reads the content of DATA up to CRLF.CRLF, and nothing else ends it
// (RFC 5321 section 4.1.1.4); it undoes the dot-stuffing (section 4.5.2) and
// hands all the rest to sink unchanged. It reads on until the end unless the
// connection or sink fails: io.ErrUnexpectedEOF where the content was cut off.
func readDots(br *bufio.Reader, sink func([]byte) error) error {
	// The CRLF of the DATA command itself counts as the first.
	atLineStart := true
	for {
		if atLineStart {
			// At least the final dot and its CRLF are still to come.
			line, err := br.Peek(3)
			if err != nil {
				return cutOff(err)
			}
			if string(line) == ".\r\n" {
				_, err := br.Discard(3)
				return err
			}
			if line[0] == '.' {
				if _, err := br.Discard(1); err != nil {
					return err
				}
			}
		}
		text, err := nextText(br)
		if err != nil {
			return cutOff(err)
		}
		if err := sink(text); err != nil {
			return err
		}
		atLineStart = bytes.HasSuffix(text, crlfDot[:2])
		if _, err := br.Discard(len(text)); err != nil {
			return err
		}
	}
}

// nextText returns what is buffered, up to and with the next CRLF that is
// followed by a dot. It never ends between a CR and its LF.
func nextText(br *bufio.Reader) ([]byte, error) {
	window, err := buffered(br, 1)
	if err != nil {
		return nil, err
	}
	if len(window) == 1 && window[0] == '\r' {
		if window, err = buffered(br, 2); err != nil {
			return nil, err
		}
	}
	if i := bytes.Index(window, crlfDot); i >= 0 {
		return window[:i+2], nil
	}
	if n := len(window); n > 1 && window[n-1] == '\r' {
		return window[:n-1], nil
	}
	return window, nil
}

// buffered is all that can be had without waiting, but at least n octets.
func buffered(br *bufio.Reader, n int) ([]byte, error) {
	if _, err := br.Peek(n); err != nil {
		return nil, err
	}
	return br.Peek(br.Buffered())
}

// readChunk hands exactly n octets of a BDAT chunk to sink (RFC 3030 section 2).
// A chunk that is cut off is io.ErrUnexpectedEOF.
func readChunk(br *bufio.Reader, n uint64, sink func([]byte) error) error {
	for n > 0 {
		window, err := buffered(br, 1)
		if err != nil {
			return cutOff(err)
		}
		window = window[:min(uint64(len(window)), n)]
		if err := sink(window); err != nil {
			return err
		}
		if _, err := br.Discard(len(window)); err != nil {
			return err
		}
		n -= uint64(len(window))
	}
	return nil
}

// cutOff makes the end of the connection within content an error that can't be
// mistaken for the end of the content.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// lineEnds finds a bare CR or a bare LF in content that comes in parts. One is
// refused because servers differ in what they take for a line's end, and a
// message hidden in another gets through on the difference (SMTP smuggling).
type lineEnds struct {
	bare     bool
	crs, lfs int
	last     byte
}

// add checks the next part. If each LF follows a CR, and there are as many of
// the one as of the other, no CR is bare either.
func (l *lineEnds) add(p []byte) {
	if l.bare || len(p) == 0 {
		return
	}
	l.crs += bytes.Count(p, crlfDot[:1])
	for at := 0; ; at++ {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			break
		}
		at += i
		before := l.last
		if at > 0 {
			before = p[at-1]
		}
		if before != '\r' {
			l.bare = true
			return
		}
		l.lfs++
	}
	l.last = p[len(p)-1]
	// A CR at the very end may still get its LF.
	open := l.crs - l.lfs
	l.bare = open > 1 || open == 1 && l.last != '\r'
}

// wrong reports whether the content, now complete, has a bare CR or LF.
func (l *lineEnds) wrong() bool { return l.bare || l.crs != l.lfs }
