package dsn

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	"strings"
)

// maxLine is the longest line in bytes, without its CRLF, that goes unencoded
// (RFC 5322 section 2.1.1).
const maxLine = 998

// returnedPart is the original, or its headers alone, in at most budget bytes,
// and whether it is the whole. RFC 3461 section 4.3 leaves the choice to us
// where RET is absent: as most relays do, the sender gets the message back.
// RET=FULL is obeyed up to the budget.
func (r Report) returnedPart(original io.Reader, budget int) (p part, whole bool, err error) {
	raw, err := io.ReadAll(io.LimitReader(original, int64(budget)+1))
	if err != nil {
		return part{}, false, err
	}
	complete := len(raw) <= budget
	// RFC 3461 section 4.3: RET is about failures; other reports have headers only.
	failed := r.Reason != Delayed && r.Reason != Relayed
	if complete && failed && !strings.EqualFold(r.Ret, "HDRS") && isText(raw) {
		return r.messagePart(raw), true, nil
	}
	return r.headersPart(headerSection(raw, complete), budget), false, nil
}

func (r Report) messagePart(raw []byte) part {
	p := part{
		contentType: "message/rfc822",
		description: "Undelivered message",
		encoding:    bitsOf(raw), // RFC 2046 section 5.2.1: no other encoding here
		body:        raw,
	}
	if r.International() {
		p.contentType = "message/global" // RFC 6532 section 3.7
	}
	return p
}

func (r Report) headersPart(section []byte, budget int) part {
	p := part{
		contentType: "text/rfc822-headers",
		description: r.headersDescription(),
		encoding:    bitsOf(section),
		body:        section,
	}
	if r.International() {
		p.contentType = "message/global-headers" // RFC 6533 section 6
	}
	// RFC 6522 section 4: broken headers are made 7-bit by quoted-printable.
	if !isText(section) || p.encoding == "8bit" && !r.International() {
		p.encoding = "quoted-printable"
		p.body = quotedLines(section, budget)
	}
	return p
}

// headerSection cuts the header section out of the start of a message; where
// its end isn't in sight, the last line may be cut short and goes.
func headerSection(raw []byte, complete bool) []byte {
	at := 0
	for line := range bytes.Lines(raw) {
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return raw[:at]
		}
		if !complete && !bytes.HasSuffix(line, []byte("\n")) {
			return raw[:at]
		}
		at += len(line)
	}
	return raw
}

// isText reports whether data can stand in a message as it is: lines end with
// CRLF and are no longer than maxLine, and there is no NUL (RFC 2045 section
// 2.8). A binary message (RFC 3030) is not text.
func isText(data []byte) bool {
	for line := range bytes.Lines(data) {
		content, ended := bytes.CutSuffix(line, []byte("\r\n"))
		if !ended && bytes.HasSuffix(line, []byte("\n")) {
			return false
		}
		if len(content) > maxLine || bytes.ContainsAny(content, "\r\x00") {
			return false
		}
	}
	return true
}

// quotedLines encodes as many whole lines as fit into budget bytes.
func quotedLines(text []byte, budget int) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		encoded := quoted(line)
		if out.Len()+len(encoded) > budget {
			break
		}
		out.Write(encoded)
	}
	return out.Bytes()
}

// quoted encodes text as quoted-printable; any line end becomes CRLF.
func quoted(text []byte) []byte {
	var out bytes.Buffer
	w := quotedprintable.NewWriter(&out)
	// A bytes.Buffer takes every write, so the writer on it can't fail.
	if _, err := w.Write(text); err != nil {
		panic("dsn: quoted-printable: " + err.Error())
	}
	if err := w.Close(); err != nil {
		panic("dsn: quoted-printable: " + err.Error())
	}
	return out.Bytes()
}

// bitsOf is the encoding that data needs, being text: 7bit or 8bit.
func bitsOf(data []byte) string {
	for _, c := range data {
		if c >= 0x80 {
			return "8bit"
		}
	}
	return "7bit"
}

func (r Report) headersDescription() string {
	if r.Reason == Relayed {
		return "Headers of the message"
	}
	return "Headers of the undelivered message"
}
