package sink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// maxHeader bounds what RecordIDs keeps of a content to find the header in.
const maxHeader = 64 << 10

// content gathers what a transaction's DATA or BDAT brings.
type content struct {
	how  Recording
	data []byte // all of it, or the beginning of its header
	size int64
	last byte // last octet seen
}

func (c *content) add(p []byte) {
	if len(p) == 0 {
		return
	}
	c.size += int64(len(p))
	c.last = p[len(p)-1]
	if c.how == RecordAll || c.how == RecordIDs && len(c.data) < maxHeader {
		c.data = append(c.data, p...)
	}
}

// readData reads up to the final dot and takes the dot-stuffing off
// (RFC 5321 section 4.5.2). Only CRLF ends a line.
func (c *content) readData(r *bufio.Reader) error {
	lineStart := true
	for {
		part, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			c.add(part)
			return err
		}
		if lineStart && part[0] == '.' {
			if string(part) == ".\r\n" {
				return nil
			}
			part = part[1:]
		}
		cr := c.last == '\r'
		c.add(part)
		lineStart = bytes.HasSuffix(part, []byte("\r\n")) || cr && string(part) == "\n"
	}
}

// readChunk reads the n octets of a BDAT command.
func (c *content) readChunk(r *bufio.Reader, n int64) error {
	for n > 0 {
		if _, err := r.Peek(1); err != nil {
			return io.ErrUnexpectedEOF
		}
		part, err := r.Peek(int(min(n, int64(r.Buffered()))))
		if err != nil {
			return err
		}
		c.add(part)
		n -= int64(len(part))
		if _, err := r.Discard(len(part)); err != nil {
			return err
		}
	}
	return nil
}

// header finds the value of a header in what was kept.
func (c *content) header(name string) string {
	for line := range bytes.Lines(c.data) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return ""
		}
		key, value, found := bytes.Cut(line, []byte(":"))
		if found && len(key) == len(name) && strings.EqualFold(string(key), name) {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
