package smtpd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// readerOver gives input in parts of the given size, through the smallest
// buffer there is, so that every boundary falls everywhere.
func readerOver(input []byte, part int) *bufio.Reader {
	return bufio.NewReaderSize(&parts{input, part}, 16)
}

type parts struct {
	rest []byte
	size int
}

func (p *parts) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

// contentOf is DATA by the letter of RFC 5321 section 4.5.2, for comparison.
func contentOf(input []byte) (content, rest []byte, complete bool) {
	whole := append([]byte("\r\n"), input...)
	body, rest, complete := bytes.Cut(whole, []byte("\r\n.\r\n"))
	if !complete {
		return nil, nil, false
	}
	body = append(body, "\r\n"...)
	return bytes.ReplaceAll(body, []byte("\r\n."), []byte("\r\n"))[2:], rest, true
}

// hasBare is the rule about line ends by the letter.
func hasBare(content []byte) bool {
	return bytes.ContainsAny(bytes.ReplaceAll(content, []byte("\r\n"), nil), "\r\n")
}

func collect(input []byte, part int, read func(*bufio.Reader, func([]byte) error) error) (content, rest []byte, wrong bool, err error) {
	br := readerOver(input, part)
	var ends lineEnds
	err = read(br, func(p []byte) error {
		content = append(content, p...)
		ends.add(p)
		return nil
	})
	rest, _ = io.ReadAll(br)
	return content, rest, ends.wrong(), err
}

func checkDots(t *testing.T, input []byte, part int) {
	t.Helper()
	want, wantRest, complete := contentOf(input)
	got, rest, wrong, err := collect(input, part, readDots)
	if !complete {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%q in parts of %d: %v for content without an end", input, part, err)
		}
		return
	}
	if err != nil || !bytes.Equal(got, want) || !bytes.Equal(rest, wantRest) {
		t.Fatalf("%q in parts of %d: got %q, rest %q, %v; want %q, rest %q", input, part, got, rest, err, want, wantRest)
	}
	if wrong != hasBare(want) {
		t.Fatalf("%q in parts of %d: bare line ends %v, want %v", input, part, wrong, hasBare(want))
	}
}

var dataSeeds = []string{
	".\r\n", "\r\n.\r\n", "x\r\n.\r\nQUIT\r\n", "..\r\n.\r\n", "x\r\n..y\r\n.\r\n", "x\n.\r\n\r\n.\r\n", "x\r\r\n.\r\n",
	".\rx\r\n.\r\n", "x\r.\r\n.\r\n", "x\r\n.\n\r\n.\r\n", "x", "x\r\n.\r", "\r", "\n", "\r\n.", ".x.\r\n.\r\n", "\r\r\r\r\r\n\r\n.\r\n",
	"0123456789abcd\r\n.\r\n", "0123456789abcde\r\n.\r\n", "0123456789abc\r\n..\r\n.\r\n",
}

func TestReadDots(t *testing.T) {
	for _, seed := range dataSeeds {
		for part := 1; part <= 20; part++ {
			checkDots(t, []byte(seed), part)
		}
	}
}

// TestReadDotsAllShort tries every sequence of the octets that matter.
func TestReadDotsAllShort(t *testing.T) {
	const octets, length = "\r\n.x", 7
	input := make([]byte, length)
	for n := range 1 << (2 * length) {
		for i := range input {
			input[i] = octets[n>>(2*i)&3]
		}
		for _, part := range []int{1, 3, 16} {
			checkDots(t, slices.Concat(input, []byte("\r\n.\r\n")), part)
		}
	}
}

func FuzzReadDots(f *testing.F) {
	for _, seed := range dataSeeds {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, input []byte, part int) {
		checkDots(t, input, max(1, part%64))
	})
}

func FuzzReadChunk(f *testing.F) {
	for _, seed := range dataSeeds {
		f.Add([]byte(seed), uint64(5), 2)
	}
	f.Fuzz(func(t *testing.T, input []byte, size uint64, part int) {
		part = max(1, part%64)
		read := func(br *bufio.Reader, sink func([]byte) error) error { return readChunk(br, size, sink) }
		got, rest, wrong, err := collect(input, part, read)
		if size > uint64(len(input)) {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("chunk of %d in %d octets: %v", size, len(input), err)
			}
			return
		}
		if err != nil || !bytes.Equal(got, input[:size]) || !bytes.Equal(rest, input[size:]) {
			t.Fatalf("chunk of %d of %q: got %q, rest %q, %v", size, input, got, rest, err)
		}
		if wrong != hasBare(got) {
			t.Fatalf("%q: bare line ends %v", got, wrong)
		}
	})
}

func TestContentReadersFail(t *testing.T) {
	broken := errors.New("broken")
	for name, read := range map[string]func(*bufio.Reader, func([]byte) error) error{
		"DATA": readDots,
		"BDAT": func(br *bufio.Reader, sink func([]byte) error) error { return readChunk(br, 100, sink) },
	} {
		for _, part := range []string{"", "x", "x\r", "x\r\n", "x\r\n."} {
			br := bufio.NewReader(io.MultiReader(strings.NewReader(part), iotest.ErrReader(broken)))
			if err := read(br, func([]byte) error { return nil }); !errors.Is(err, broken) {
				t.Errorf("%s after %q: %v", name, part, err)
			}
		}
		br := bufio.NewReader(strings.NewReader(strings.Repeat("x", 200)))
		if err := read(br, func([]byte) error { return errTooMuch }); !errors.Is(err, errTooMuch) {
			t.Errorf("%s with a failing sink: %v", name, err)
		}
	}
}

func TestHeaderScan(t *testing.T) {
	long := strings.Repeat("i", 2000)
	tests := map[string]struct {
		message  string
		id       string
		received int
	}{
		"none":             {"Subject: x\r\n\r\nMessage-ID: <1>\r\nReceived: x\r\n", "", 0},
		"both":             {"Received: a\r\n b\r\nMESSAGE-id:<1@x> \r\nreceived:\r\n\r\n", "<1@x>", 2},
		"folded":           {"Message-ID:\r\n\t<1@\r\n x>\r\nSubject: y\r\n z\r\n\r\n", "<1@x>", 0},
		"first counts":     {"Message-ID: <1>\r\nMessage-ID: <2>\r\n\r\n", "<1>", 0},
		"too long":         {"Message-ID: " + long + "\r\n " + long + "\r\nReceived: x\r\n\r\n", long[:998], 1},
		"not UTF-8":        {"Message-ID: <\xff1>\r\n\r\n", "<1>", 0},
		"no header":        {"Received: x\r\nhello\r\nReceived: y\r\n", "", 1},
		"not quite":        {"X-Received: x\r\nReceived-SPF: y\r\n\r\n", "", 0},
		"without an end":   {"Received: x", "", 0},
		"continued at top": {" <1>\r\nMessage-ID: <2>\r\n\r\n", "<2>", 0},
	}
	for name, test := range tests {
		for _, part := range []int{1, 2, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, part), func(t *testing.T) {
				var h headerScan
				for p := range slices.Chunk([]byte(test.message), part) {
					h.add(p)
				}
				if h.id() != test.id || h.received != test.received {
					t.Errorf("got %q and %d hops, want %q and %d", h.id(), h.received, test.id, test.received)
				}
				if cap(h.line) > 4*maxScannedLine {
					t.Errorf("%d octets kept of a line", cap(h.line))
				}
			})
		}
	}
}
