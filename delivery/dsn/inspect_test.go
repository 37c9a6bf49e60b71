package dsn

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"
	"testing"
)

// readPart is a part of a report with its body decoded.
type readPart struct {
	kind, encoding string
	body           []byte
}

// inspect reads a report back and checks what holds for every report, whatever
// went into it.
func inspect(t testing.TB, r Report, report []byte) []readPart {
	t.Helper()
	if len(report) > MaxSize {
		t.Errorf("report has %d bytes, at most %d are allowed", len(report), MaxSize)
	}
	checkLines(t, report)
	message, err := mail.ReadMessage(bytes.NewReader(report))
	if err != nil {
		t.Fatalf("read the report: %v", err)
	}
	checkHeader(t, message.Header)
	parts := readParts(t, message)
	eightBit := false
	for _, p := range parts {
		eightBit = eightBit || p.encoding == "8bit"
	}
	if got := message.Header.Get("Content-Transfer-Encoding") == "8bit"; got != eightBit {
		t.Errorf("report declares 8bit: %v, a part has it: %v", got, eightBit)
	}
	if !eightBit && !r.International() && !isASCII(string(report)) {
		t.Error("8-bit bytes in a report that declares 7bit")
	}
	checkStatus(t, r, parts[1].body)
	return parts
}

func checkLines(t testing.TB, report []byte) {
	t.Helper()
	for line := range bytes.Lines(report) {
		content, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok || bytes.ContainsAny(content, "\r\x00") {
			t.Fatalf("bad line end or control character in %q", line)
		}
		if len(content) > maxLine {
			t.Fatalf("line of %d bytes", len(content))
		}
	}
}

func checkHeader(t testing.TB, header mail.Header) {
	t.Helper()
	allowed := map[string]bool{"In-Reply-To": false, "References": false}
	for _, name := range []string{"Date", "From", "To", "Subject", "Message-Id", "Auto-Submitted",
		"Mime-Version", "Content-Type", "Content-Transfer-Encoding"} {
		allowed[name] = true
	}
	for name, required := range allowed {
		if n := len(header[name]); n > 1 || required && n == 0 {
			t.Errorf("%d headers %s", n, name)
		}
	}
	for name := range header {
		if _, ok := allowed[name]; !ok {
			t.Errorf("header %s: %q doesn't belong there", name, header[name])
		}
	}
	if _, err := header.Date(); err != nil {
		t.Errorf("Date: %v", err)
	}
	from, err := header.AddressList("From")
	if err != nil || len(from) != 1 || !strings.HasPrefix(from[0].Address, "MAILER-DAEMON@") {
		t.Errorf("From %q: %v", header.Get("From"), err)
	}
	if to, err := header.AddressList("To"); err != nil || len(to) > 1 {
		t.Errorf("To %q: %v", header.Get("To"), err)
	}
	if header.Get("Auto-Submitted") != "auto-replied" {
		t.Errorf("Auto-Submitted %q", header.Get("Auto-Submitted"))
	}
}

func readParts(t testing.TB, message *mail.Message) []readPart {
	t.Helper()
	kind, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %q: %v", message.Header.Get("Content-Type"), err)
	}
	var parts []readPart
	reader := multipart.NewReader(message.Body, params["boundary"])
	for {
		p, err := reader.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("part %d: %v", len(parts)+1, err)
		}
		parts = append(parts, decodePart(t, p))
	}
	wanted := [][]string{
		{"text/plain"},
		{"message/delivery-status", "message/global-delivery-status"},
		{"message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers"},
	}
	if len(parts) != len(wanted) {
		t.Fatalf("%d parts, want %d", len(parts), len(wanted))
	}
	for i, p := range parts {
		if !strings.Contains("|"+strings.Join(wanted[i], "|")+"|", "|"+p.kind+"|") {
			t.Errorf("part %d is %s, want one of %s", i+1, p.kind, wanted[i])
		}
	}
	return parts
}

func decodePart(t testing.TB, p *multipart.Part) readPart {
	t.Helper()
	kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
	if err != nil {
		t.Fatalf("part: %v", err)
	}
	encoding := p.Header.Get("Content-Transfer-Encoding")
	body, err := io.ReadAll(decoder(encoding, p))
	if err != nil {
		t.Fatalf("part %s: %v", kind, err)
	}
	if encoding == "7bit" && !isASCII(string(body)) {
		t.Errorf("part %s declares 7bit and isn't", kind)
	}
	return readPart{kind: kind, encoding: encoding, body: body}
}

// checkStatus reads the fields for machines: the message's group, then exactly
// one group for each recipient.
func checkStatus(t testing.TB, r Report, body []byte) {
	t.Helper()
	groups := readStatus(t, body)
	if len(groups) != 1+len(r.Recipients) {
		t.Fatalf("%d groups of fields for %d recipients:\n%s", len(groups), len(r.Recipients), body)
	}
	for _, group := range groups {
		for name, values := range group {
			if len(values) != 1 {
				t.Errorf("%d fields %s", len(values), name)
			}
		}
	}
	onlyFields(t, groups[0], "Reporting-Mta", "Original-Envelope-Id", "Arrival-Date", "X-Holdfast-Message-Id")
	for _, group := range groups[1:] {
		onlyFields(t, group, "Original-Recipient", "Final-Recipient", "Action", "Status",
			"Remote-Mta", "Diagnostic-Code", "Last-Attempt-Date", "Will-Retry-Until")
		// RFC 3464 sections 2.3.3 and 2.3.4: what goes with which class of status.
		class := map[Reason]string{Rejected: "failed [45].", Expired: "failed [45].", Delayed: "delayed 4.", Relayed: "relayed 2."}[r.Reason]
		if !regexp.MustCompile("^"+class).MatchString(group.Get("Action")+" "+group.Get("Status")) ||
			group.Get("Will-Retry-Until") != "" && r.Reason != Delayed ||
			!strings.Contains(group.Get("Final-Recipient"), ";") {
			t.Errorf("recipient's fields: %v", group)
		}
	}
}

func onlyFields(t testing.TB, group textproto.MIMEHeader, names ...string) {
	t.Helper()
	allowed := map[string]bool{}
	for _, name := range names {
		allowed[name] = true
	}
	for name := range group {
		if !allowed[name] {
			t.Errorf("field %s: %q doesn't belong there", name, group[name])
		}
	}
}
