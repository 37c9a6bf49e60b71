package dsn

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"holdfast/relay"
)

func TestFieldUnfoldsToItsValue(t *testing.T) {
	values := []string{
		"short",
		strings.Repeat("word ", 50) + "end",
		strings.Repeat("x", 500) + " " + strings.Repeat("y", 300) + " z",
		"a " + strings.Repeat("b", 74) + " c",
	}
	for _, value := range values {
		var b bytes.Buffer
		field(&b, "Name", value)
		checkLines(t, b.Bytes())
		unfolded := strings.ReplaceAll(strings.TrimSuffix(b.String(), "\r\n"), "\r\n", "")
		if unfolded != "Name: "+value {
			t.Errorf("%.40q unfolds to %.60q", value, unfolded)
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > foldWidth+2 && strings.Count(strings.TrimLeft(line, " "), " ") > 1 {
				t.Errorf("line of %d bytes could be folded: %.40q", len(line), line)
			}
		}
	}
}

func TestMailbox(t *testing.T) {
	const left = "undisclosed-recipients:;"
	tests := map[string]string{
		"a@b.test":                  "<a@b.test>",
		`"a b"@c.test`:              `<"a b"@c.test>`,
		"a@[192.0.2.1]":             "<a@[192.0.2.1]>",
		"ä@b.test":                  "<ä@b.test>",
		"a@b.test>, <victim@c.test": left,
		"a@b.test\r\nBcc: c@d.test": left,
		"not an address":            left,
		"":                          left,
	}
	for address, want := range tests {
		if got := mailbox(address); got != want {
			t.Errorf("mailbox(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestHostname(t *testing.T) {
	tests := map[string]string{
		"mx-a.example.net":        "mx-a.example.net",
		"192.0.2.1":               "[192.0.2.1]",
		"[192.0.2.1]":             "[192.0.2.1]",
		"2001:db8::1":             "[IPv6:2001:db8::1]",
		"":                        "unknown.invalid",
		"a..b":                    "unknown.invalid",
		"a.test\r\nBcc: c@d.test": "unknown.invalid",
	}
	for host, want := range tests {
		if got := hostname(host); got != want {
			t.Errorf("hostname(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestMessageID(t *testing.T) {
	tests := map[string]string{
		"<a@b.test>":            "<a@b.test>",
		" <a@b.test> ":          "<a@b.test>",
		"a@b.test":              "",
		"<a@b.test>\r\n <c@d>":  "",
		"<a b@c.test>":          "",
		"<>":                    "",
		"<ä@b.test>":            "",
		"<" + long(999) + "@b>": "",
	}
	for id, want := range tests {
		if got := messageID(id, false); got != want {
			t.Errorf("messageID(%.40q) = %q, want %q", id, got, want)
		}
	}
	if got := messageID("<ä@b.test>", true); got != "<ä@b.test>" {
		t.Errorf("international: %q", got)
	}
}

func long(n int) string { return strings.Repeat("x", n) }

func TestInWords(t *testing.T) {
	tests := map[time.Duration]string{
		0:                  "a minute",
		119 * time.Second:  "a minute",
		2 * time.Minute:    "2 minutes",
		119 * time.Minute:  "119 minutes",
		36 * time.Hour:     "36 hours",
		5 * 24 * time.Hour: "5 days",
	}
	for d, want := range tests {
		if got := inWords(d); got != want {
			t.Errorf("inWords(%s) = %q, want %q", d, got, want)
		}
	}
}

// FuzzRender puts anything everywhere: the result must have exactly the headers,
// parts and fields of a report, whatever stands in them.
func FuzzRender(f *testing.F) {
	seeds := []string{
		"bob@example.test", "x\r\nBcc: victim@c.test\r\n\r\nbody", "\x00\x01\xff", "für\u202egnp.exe\u2028",
		strings.Repeat("x", 1200), strings.Repeat(" ", 1200), "=_01JZ0000000000000000000REP.0", ">;\"\\,(", "--", ".\r\n",
	}
	for _, s := range seeds {
		f.Add(s, s, s, s, s, original, uint16(550), uint8(1), true)
		f.Add("a@b.test", "rfc822;"+s, s, "5.1.1", "<"+s+">", s, uint16(0), uint8(30), false)
	}
	f.Fuzz(func(t *testing.T, address, orcpt, text, enhanced, id, original string, code uint16, n uint8, flag bool) {
		r := testReport(t)
		r.To, r.EnvID, r.Ret, r.HeaderMessageID, r.ReportingMTA = address, text, enhanced, id, id
		r.SMTPUTF8 = flag
		if flag {
			r.Reason = Expired
		}
		r.Recipients = make([]Recipient, 1+int(n)%MaxRecipients)
		for i := range r.Recipients {
			r.Recipients[i] = Recipient{Address: address, ORcpt: orcpt, Failure: &relay.Failure{
				Cause: relay.Cause(text), Phase: relay.Phase(text), Host: orcpt, Code: int(code),
				Enhanced: enhanced, Text: text, At: r.Date, InDoubt: flag,
			}}
		}
		got, err := r.Render(strings.NewReader(original))
		if err != nil {
			t.Fatal(err)
		}
		inspect(t, r, got)
	})
}
