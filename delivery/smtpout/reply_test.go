package smtpout

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"holdfast/relay"
)

func TestReadReply(t *testing.T) {
	tests := []struct {
		in   string
		want relay.Reply
	}{
		{"250 ok\r\n", relay.Reply{Code: 250, Text: "ok"}},
		{"250\r\n", relay.Reply{Code: 250}},
		{"250 ok\n", relay.Reply{Code: 250, Text: "ok"}},
		{"550-5.1.1 no such\r\n550 5.1.1 user\r\n", relay.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}},
		{"550-no such\r\n550 5.1.1 user\r\n", relay.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}},
		{"450 4.2.2\r\n", relay.Reply{Code: 450, Enhanced: "4.2.2"}},
		{"550 4.2.2 class differs\r\n", relay.Reply{Code: 550, Text: "4.2.2 class differs"}},
		{"550 5.2 x\r\n", relay.Reply{Code: 550, Text: "5.2 x"}},
		{"550 5.1234.1 x\r\n", relay.Reply{Code: 550, Text: "5.1234.1 x"}},
		{"450-a\r\n550 b\r\n", relay.Reply{Code: 550, Text: "a b"}},
		{"550 a\x00b\xffc\r\n", relay.Reply{Code: 550, Text: "a?b?c"}},
	}
	for _, test := range tests {
		got, err := readReply(bufio.NewReaderSize(strings.NewReader(test.in), maxReplyLine), nil)
		if err != nil || got.relay() != test.want {
			t.Errorf("%q: %+v, %v, want %+v", test.in, got.relay(), err, test.want)
		}
	}
}

func TestReadReplyMalformed(t *testing.T) {
	for _, in := range []string{
		"\r\n", "25\r\n", "abc x\r\n", "250x\r\n", "199 x\r\n", "600 x\r\n", "250-a\r\nb\r\n",
		"250 " + strings.Repeat("x", maxReplyLine) + "\r\n",
		strings.Repeat("250-"+strings.Repeat("x", 1000)+"\r\n", 70) + "250 x\r\n",
	} {
		if _, err := readReply(bufio.NewReaderSize(strings.NewReader(in), maxReplyLine), nil); !errors.Is(err, errProtocol) {
			t.Errorf("%.40q: error %v, want a breach of protocol", in, err)
		}
	}
	if _, err := readReply(bufio.NewReader(strings.NewReader("250-a\r\n")), nil); !errors.Is(err, io.EOF) {
		t.Errorf("cut off: error %v, want EOF", err)
	}
}

func FuzzReadReply(f *testing.F) {
	for _, seed := range []string{
		"250 ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 x\r\n", "\r\n", "250", "250-\n250\n", "421 4.3.2 \xff\x00\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := readReply(bufio.NewReaderSize(bytes.NewReader(in), maxReplyLine), nil)
		if err != nil {
			return
		}
		if got.code < 200 || got.code > 599 || len(got.text) > maxReply {
			t.Errorf("code %d, %d octets of text", got.code, len(got.text))
		}
		said := got.relay()
		if !utf8.ValidString(said.Text) || strings.ContainsAny(said.Text, "\r\n\x00") || len(said.Text) > maxText {
			t.Errorf("text %q", said.Text)
		}
		if said.Enhanced != "" && int(said.Enhanced[0]-'0') != said.Code/100 {
			t.Errorf("enhanced %q of %d", said.Enhanced, said.Code)
		}
		parseExtensions(got.text)
	})
}

// FuzzStuffer compares dot-stuffing in blocks of any size with the sentence of
// the RFC: where a line begins with a dot, one more is put before it.
func FuzzStuffer(f *testing.F) {
	f.Add([]byte(".a\r\n..\r\n.\r\n"), 1)
	f.Add([]byte("a\n.\r\n"), 2)
	f.Add([]byte("\r\r\n.\r"), 3)
	f.Fuzz(func(t *testing.T, in []byte, block int) {
		block = max(block, 1)
		s := newStuffer()
		var out []byte
		var err error
		for rest := in; len(rest) > 0 && err == nil; {
			n := min(block, len(rest))
			out, err = s.append(out, rest[:n])
			rest = rest[n:]
		}
		if bareLF(in) != (err != nil) {
			t.Fatalf("%q: error %v", in, err)
		}
		if err != nil {
			return
		}
		whole := "\r\n" + string(in)
		if !strings.HasSuffix(whole, "\r\n") {
			whole += "\r\n"
		}
		expected := strings.ReplaceAll(whole, "\r\n.", "\r\n..")[2:] + ".\r\n"
		if got := string(s.end(out)); got != expected {
			t.Errorf("%q in blocks of %d: %q, want %q", in, block, got, expected)
		}
	})
}

func bareLF(in []byte) bool {
	for i := 1; i < len(in); i++ {
		if in[i] == '.' && in[i-1] == '\n' && (i < 2 || in[i-2] != '\r') {
			return true
		}
	}
	return false
}

func TestCheckAddress(t *testing.T) {
	for _, good := range []string{"a@b", "postmaster", `"a b"@c`, `"a\"b>"@c`, "ü@ö.example", "a@[127.0.0.1]", "a@[IPv6:::1]"} {
		if err := checkAddress(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a b@c", "a>@c", "<a@c", "a@c\r\n", "a\x00@c", "a\x7f@c", `"a@c`, `"a\`, "\"a\\\r\"@c", "a\xff@c"} {
		if checkAddress(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
