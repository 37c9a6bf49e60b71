package smtpd

import (
	"bytes"
	"strings"
)

const (
	// maxReceived is the number of Received headers beyond which a message is
	// in a loop (RFC 5321 section 6.3: at least 100 "normally"; the contract
	// has 50).
	maxReceived = 50
	// maxHeaderID is the longest Message-ID that is kept, in bytes.
	maxHeaderID = 998
	// maxScannedLine is how much of a header line is looked at.
	maxScannedLine = maxHeaderID + 64
)

// headerScan reads the header section of a message that comes in parts: it
// counts Received headers and picks the Message-ID. It looks at nothing after
// the first empty line, or the first line that is no header.
type headerScan struct {
	received  int
	line      []byte // the current line, at most maxScannedLine of it
	messageID []byte
	inID      bool // the line before was Message-ID, which may be folded
	watched   watched
	done      bool
}

func (h *headerScan) add(p []byte) {
	for !h.done && len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		part := p
		if end >= 0 {
			part = p[:end+1]
		}
		h.line = append(h.line, part[:min(len(part), maxScannedLine-len(h.line))]...)
		if end < 0 {
			return
		}
		h.endLine(bytes.TrimRight(h.line, "\r\n"))
		h.line = h.line[:0]
		p = p[end+1:]
	}
}

func (h *headerScan) endLine(line []byte) {
	if len(line) == 0 {
		h.done = true
		return
	}
	if line[0] == ' ' || line[0] == '\t' {
		h.watched.fold(line)
		if h.inID {
			h.messageID = append(h.messageID, bytes.TrimSpace(line)...)
			h.messageID = h.messageID[:min(len(h.messageID), maxHeaderID)]
		}
		return
	}
	name, value, isHeader := bytes.Cut(line, []byte(":"))
	h.inID = false
	h.watched.begin(name, value, isHeader)
	switch name = bytes.TrimRight(name, " \t"); {
	case !isHeader:
		h.done = true
	case bytes.EqualFold(name, []byte("Received")):
		h.received++
	case bytes.EqualFold(name, []byte("Message-ID")) && len(h.messageID) == 0:
		h.inID = true
		h.messageID = append(h.messageID, bytes.TrimSpace(value)...)
		h.messageID = h.messageID[:min(len(h.messageID), maxHeaderID)]
	}
}

// id is the Message-ID as events can carry it, "" where there is none.
func (h *headerScan) id() string { return strings.ToValidUTF8(string(h.messageID), "") }
