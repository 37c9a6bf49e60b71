package load

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
)

// The headers by which a receiver tells which message it has, and that its
// body is whole.
const (
	HeaderID  = "X-Holdfast-Test-Id"
	HeaderSum = "X-Holdfast-Test-Sum" // CRC-32C of the body, 8 hex digits
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const lineLength = 76

// corpus is text of lines of 76 letters from which bodies are cut. It is made
// once for a run: making text for each message would slow the loader down.
type corpus []byte

func newCorpus(longest int) corpus {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	random := rand.New(rand.NewPCG(5321, 5322))
	// A body begins at any of 64 lines, so that bodies differ.
	lines := longest/(lineLength+2) + 66
	text := make([]byte, 0, lines*(lineLength+2))
	for range lines {
		for range lineLength {
			text = append(text, letters[random.IntN(len(letters))])
		}
		text = append(text, '\r', '\n')
	}
	return text
}

// body cuts size bytes that begin at the n-th line, without copying: all but
// the last few bytes are the corpus's own.
func (c corpus) body(n, size int) (most, end []byte) {
	start := n % 64 * (lineLength + 2)
	if size%(lineLength+2) == 1 {
		// Cut two bytes before the end, it would leave a lone CR before the CRLF.
		return c[start : start+size-3], []byte("x\r\n")
	}
	return c[start : start+size-2], []byte("\r\n")
}

// message makes a message of size bytes in three parts. The header carries the
// body's checksum, so the body is chosen for the length of a header whose sum
// is still zero: the length is the same.
func (c corpus) message(id, from, to string, n, size int) (header, body, end []byte) {
	write := func(sum uint32) []byte {
		var b bytes.Buffer
		fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: load %s\r\n", from, to, id)
		fmt.Fprintf(&b, "Message-ID: <%s@load.test>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n", id)
		fmt.Fprintf(&b, "%s: %s\r\n%s: %08x\r\n\r\n", HeaderID, id, HeaderSum, sum)
		return b.Bytes()
	}
	body, end = c.body(n, size-len(write(0)))
	sum := crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, end)
	return write(sum), body, end
}

// Identify reads the id of a received message and checks its body against the
// checksum it carries. Trace headers in front of it don't matter.
func Identify(message []byte) (id string, err error) {
	header, body, found := bytes.Cut(message, []byte("\r\n\r\n"))
	if !found {
		return "", fmt.Errorf("message of %d bytes has no body", len(message))
	}
	id = headerValue(header, HeaderID)
	if id == "" {
		return "", fmt.Errorf("message has no %s", HeaderID)
	}
	want := headerValue(header, HeaderSum)
	if got := fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)); got != want {
		return id, fmt.Errorf("message %s: body of %d bytes has checksum %s, want %s", id, len(body), got, want)
	}
	return id, nil
}

func headerValue(header []byte, name string) string {
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		key, value, found := bytes.Cut(line, []byte(":"))
		if found && strings.EqualFold(string(key), name) {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
