package dsn

import (
	"bytes"
	"net/mail"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// foldWidth is where a field is folded if it has a space to fold at (RFC
	// 5322 section 2.1.1 wants 78).
	foldWidth = 76
	// foldHard is where it is folded without one, well below the 998 that no
	// line may exceed.
	foldHard = 900
)

// field writes "Name: value", folded. The value is clean: without line ends.
func field(b *bytes.Buffer, name, value string) {
	line := name + ": " + value
	// No break before the value: some readers take an empty first line for the value.
	start := len(name) + 2
	for len(line) > foldWidth {
		at, hard := foldAt(line, start)
		if at == len(line) {
			break
		}
		b.WriteString(line[:at] + "\r\n")
		line = line[at:]
		if hard {
			line = " " + line
		}
		start = 1
	}
	b.WriteString(line + "\r\n")
}

// foldAt finds the space that a line is folded before: the last up to
// foldWidth, else the first after it. Where there is none up to foldHard the
// line breaks there, between two characters.
func foldAt(line string, start int) (at int, hard bool) {
	for i := start; i < len(line) && i <= foldHard; i++ {
		if line[i] != ' ' {
			continue
		}
		if i > foldWidth && at > 0 {
			break
		}
		at = i
	}
	switch {
	case at > 0:
		return at, false
	case len(line) <= foldHard:
		return len(line), false
	}
	for at = foldHard; !utf8.RuneStart(line[at]); at-- {
	}
	return at, true
}

// text makes a value for a field of the status part: clean, and plain ASCII
// unless the report is international.
func (r Report) text(s string, limit int) string {
	s = clean(s, limit)
	if r.International() {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c > unicode.MaxASCII {
			return '?'
		}
		return c
	}, s)
}

// clean makes one line of text from outside, at most limit bytes long: what
// isn't printable (line ends, controls, marks that turn the direction of
// writing) becomes a space, what isn't UTF-8 a question mark. Spaces in a row
// become one: a folded line of spaces alone would end a header.
func clean(s string, limit int) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= limit {
		return s
	}
	end := limit
	for ; !utf8.RuneStart(s[end]); end-- {
	}
	return strings.TrimSpace(s[:end])
}

var domainName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// hostname writes a host as RFC 3464 section 2.3.5 wants it: a domain, or an
// address literal (RFC 5321 section 4.1.3).
func hostname(host string) string {
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	switch {
	case err == nil && ip.Is4():
		return "[" + ip.String() + "]"
	case err == nil:
		return "[IPv6:" + ip.WithZone("").String() + "]"
	case len(host) <= maxHost && domainName.MatchString(host):
		return host
	}
	return "unknown.invalid"
}

// mailbox writes an envelope address for the To header. One that RFC 5322 has
// no form for is left out: the report goes by its envelope.
func mailbox(address string) string {
	written := "<" + address + ">"
	parsed, err := mail.ParseAddress(written)
	if err != nil || parsed.Name != "" || clean(address, maxAddress) != address {
		return "undisclosed-recipients:;"
	}
	return written
}

// messageID returns a Message-ID that can be quoted, else "".
func messageID(s string, international bool) string {
	s = strings.TrimSpace(s)
	inner, opened := strings.CutPrefix(s, "<")
	inner, closed := strings.CutSuffix(inner, ">")
	if !opened || !closed || inner == "" || strings.ContainsAny(inner, "<> ") {
		return ""
	}
	if clean(s, foldHard) != s || !international && !isASCII(s) {
		return ""
	}
	return s
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
