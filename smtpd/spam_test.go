package smtpd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func withDomains(configs ...*pb.DomainConfig) func(*Config, *cluster) {
	return func(_ *Config, c *cluster) {
		c.configs = map[string]*pb.DomainConfig{}
		for _, config := range configs {
			c.configs[config.Name] = config
		}
	}
}

// Each recipient is marked by the rules of its own domain.
func TestSpamIsMarked(t *testing.T) {
	h := start(t, withDomains(
		&pb.DomainConfig{Name: "strict.test", SpamIf: []string{"X-Spam-Score>5", "X-Spam-Flag=YES"}},
		&pb.DomainConfig{Name: "loose.test", SpamIf: []string{"X-Spam-Flag"}},
		&pb.DomainConfig{Name: "none.test"},
	))
	for name, tt := range map[string]struct{ headers, want string }{
		"both headers":       {"X-Spam-Score: 7.5\r\nX-Spam-Flag: YES\r\n", "strict loose"},
		"in another case":    {"x-spam-score:6\r\nX-SPAM-FLAG: yes\r\n", "strict loose"},
		"folded":             {"X-Spam-Score:\r\n\t7.5\r\nX-Spam-Flag:\r\n YES\r\n", "strict loose"},
		"one of two":         {"X-Spam-Score: 7.5\r\nX-Spam-Flag: NO\r\n", "loose"},
		"twice":              {"X-Spam-Flag: NO\r\nX-Spam-Score: 1\r\nX-Spam-Score: 9\r\nX-Spam-Flag: YES\r\n", "strict loose"},
		"no header":          {"Subject: hello\r\n", ""},
		"in the body":        {"Subject: hello\r\n\r\nX-Spam-Score: 7.5\r\nX-Spam-Flag: YES\r\n", ""},
		"many of one header": {strings.Repeat("X-Spam-Flag: NO\r\n", 500) + "X-Spam-Score: 9\r\n", "loose"},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%t", name, chunked), func(t *testing.T) {
				c := h.greeted(t)
				c.ask("MAIL FROM:<a@example.net>", "250 ")
				for _, domain := range []string{"strict", "loose", "none"} {
					c.ask("RCPT TO:<b@"+domain+".test>", "250 ")
				}
				content := tt.headers + "\r\nHello.\r\n"
				if chunked {
					// Few octets at a time: a header may come in any pieces.
					for piece := range slices.Chunk([]byte(content), 1+len(content)/1000) {
						c.send(fmt.Sprintf("BDAT %d\r\n%s", len(piece), piece))
						c.want("250 ")
					}
					c.ask("BDAT 0 LAST", "250 ")
				} else {
					c.ask("DATA", "354 ")
					c.send(dotStuffed(content))
					c.want("250 ")
				}
				messages := h.accepted()
				var marked []string
				for _, r := range messages[len(messages)-1].Recipients {
					if r.Spam {
						marked = append(marked, strings.TrimSuffix(relay.RelayDomain(r.Address), ".test"))
					}
				}
				if got := strings.Join(marked, " "); got != tt.want {
					t.Errorf("marked for %q, want %q", got, tt.want)
				}
			})
		}
	}
}

// A domain at its limit refuses its own recipients and nobody else's.
func TestDomainAtItsLimit(t *testing.T) {
	h := start(t, withDomains(
		&pb.DomainConfig{Name: "few.test", MaxMessages: 2},
		&pb.DomainConfig{Name: "small.test", MaxBytes: 100_000},
		&pb.DomainConfig{Name: "free.test"},
	))
	c := h.greeted(t)
	deliver := func(size int, to ...string) {
		t.Helper()
		c.ask(fmt.Sprintf("MAIL FROM:<a@example.net> SIZE=%d", size), "250 ")
		for _, domain := range to {
			c.ask("RCPT TO:<b@"+domain+".test>", "250 ")
		}
		c.ask("DATA", "354 ")
		c.send(dotStuffed("Subject: x\r\n\r\n" + text(size) + "\r\n"))
		c.want("250 ")
	}
	deliver(1000, "few", "free")
	deliver(1000, "few", "small")
	deliver(60_000, "small", "free")
	c.ask("MAIL FROM:<a@example.net> SIZE=50000", "250 ")
	c.ask("RCPT TO:<b@few.test>", "452 4.2.2 too much mail is held for this domain")
	c.ask("RCPT TO:<b@small.test>", "452 4.2.2")
	c.ask("RCPT TO:<b@free.test>", "250 ")
	c.ask("RSET", "250 ")
	c.ask("MAIL FROM:<a@example.net> SIZE=100000", "250 ")
	c.ask("RCPT TO:<b@small.test>", "552 5.3.4 message is as large as all") // however long it waits
	c.ask("RSET", "250 ")
	c.ask("MAIL FROM:<a@example.net>", "250 ")
	c.ask("RCPT TO:<b@small.test>", "250 ")
}
