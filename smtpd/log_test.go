package smtpd

import (
	"strings"
	"testing"
)

// lines are the log's lines about something.
func (h *harness) lines(msg string) []string {
	var found []string
	for line := range strings.Lines(h.logs.String()) {
		if strings.Contains(line, "msg="+msg) {
			found = append(found, line)
		}
	}
	return found
}

func wantAll(t *testing.T, line string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(line, part) {
			t.Errorf("no %s in %s", part, line)
		}
	}
}

// What an operator searches for: one line for each message taken, and one for
// each command refused, with the words that the client got.
func TestLogLines(t *testing.T) {
	h, config := startWithTLS(t)
	c := h.greeted(t)
	c.secure(config)
	c.ask("EHLO client.example", "250-")
	c.ask("MAIL FROM:<a@example.com>", "250 ")
	c.ask("RCPT TO:<b@elsewhere.example>", "550 5.7.1 ")
	c.ask("RCPT TO:<b@example.org>", "250 ")
	c.ask("RCPT TO:<c@example.org>", "250 ")
	c.ask("DATA", "354 ")
	c.send("Subject: x\r\n\r\nx\r\n.\r\n")
	id := strings.Fields(c.want("250 2.0.0 "))[2]
	c.ask("AUTH PLAIN c2VjcmV0", "502 ")
	c.ask("MAIL FROM:<a@example.com>", "250 ")
	c.ask("RCPT TO:<b@example.org>", "250 ")
	c.ask("DATA", "354 ")
	c.send("x\ny\r\n.\r\n")
	c.want("554 5.6.0 ")
	c.ask("QUIT", "221 ")

	accepted := h.lines("accepted")
	if len(accepted) != 1 {
		t.Fatalf("%d lines about 1 message: %s", len(accepted), h.logs)
	}
	wantAll(t, accepted[0], "id="+id, "client=127.0.0.1", "helo=client.example", "from=a@example.com",
		"nrcpt=2", "size=", "protocol=ESMTPS", "tls=TLS1.3", "delay=")
	refused := h.lines("refused")
	if len(refused) != 3 {
		t.Fatalf("%d lines about 3 refusals: %s", len(refused), h.logs)
	}
	wantAll(t, refused[0], `command="RCPT TO:<b@elsewhere.example>"`, `reply="550 5.7.1 `, "from=a@example.com", "client=127.0.0.1")
	wantAll(t, refused[1], "command=AUTH ", `reply="502 `)
	wantAll(t, refused[2], "command=DATA", `reply="554 5.6.0 `, "nrcpt=1", "id=01")
	if strings.Contains(h.logs.String(), "c2VjcmV0") {
		t.Error("the log has what AUTH brought")
	}
}
