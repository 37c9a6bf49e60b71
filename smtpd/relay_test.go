package smtpd

import (
	"strings"
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	noRelay = "550 5.7.1 no mail is relayed for this domain"
	noRoute = "550 5.7.1 no mail is relayed for this domain: neither it nor the domain * for all others is configured"
)

// Only clients of relay networks send to domains that aren't configured, and only
// where there is a route.
func TestRelay(t *testing.T) {
	const taken = "250 2.1.5 recipient ok"
	type answers struct{ configured, other, literal string }
	for _, c := range []struct {
		name     string
		networks []string
		route    bool
		want     answers
	}{
		{"stranger, no route", []string{"127.0.0.2/32"}, false, answers{taken, noRelay, noRelay}},
		{"stranger", []string{"127.0.0.2/32", "::1/128"}, true, answers{taken, noRelay, noRelay}},
		{"listed, no route", []string{"127.0.0.0/8"}, false, answers{taken, noRoute, noRelay}},
		{"listed", []string{"10.0.0.0/8", "127.0.0.1/32"}, true, answers{taken, taken, noRelay}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, nil)
			h.setNetworks(c.networks...)
			h.setDomain(relay.DefaultRoute, c.route)
			s := h.greeted(t)
			s.ask("MAIL FROM:<>", "250 ")
			for to, want := range map[string]string{
				"b@example.org": c.want.configured, "b@BÜCHER.example": "553 5.6.7",
				"b@other.example": c.want.other, "b@[192.0.2.1]": c.want.literal, "b@*": "501 5.1.3",
			} {
				s.send("RCPT TO:<" + to + ">\r\n")
				lines, err := s.reply()
				got := strings.Join(lines, "\n")
				if same := got == want || len(want) == len("550 5.7.1") && strings.HasPrefix(got, want); err != nil || !same {
					t.Errorf("%s: %q %v, want %q", to, got, err, want)
				}
			}
			s.ask("DATA", "354 ")
			s.send("Subject: x\r\n\r\nx\r\n.\r\n")
			s.want("250 ")
			for _, r := range h.accepted()[0].Recipients {
				if other := r.Address == "b@other.example"; other != (r.Domain == relay.DefaultRoute) {
					t.Errorf("%s was taken by domain %q", r.Address, r.Domain)
				}
			}
		})
	}
}

// The settings and domains of the moment decide, in a session that is open already.
func TestRelayChangesUnderWay(t *testing.T) {
	h := start(t, nil)
	s := h.greeted(t)
	s.ask("MAIL FROM:<a@example.org>", "250 ")
	s.ask("RCPT TO:<b@other.example>", noRelay)
	h.setNetworks("127.0.0.1/32")
	s.ask("RCPT TO:<b@other.example>", noRoute)
	h.setDomain(relay.DefaultRoute, true)
	s.ask("RCPT TO:<b@other.example>", "250 ")
	h.setNetworks()
	s.ask("RCPT TO:<c@other.example>", noRelay)
	s.ask("RCPT TO:<b@example.org>", "250 ")
}

// The limits and the spam rules of the domain * hold for all mail that goes by it.
func TestDefaultRouteHasItsOwnRules(t *testing.T) {
	h := start(t, withDomains(
		&pb.DomainConfig{Name: relay.DefaultRoute, MaxMessages: 1, SpamIf: []string{"X-Spam-Flag=YES"}},
		&pb.DomainConfig{Name: "plain.test"},
	))
	h.setNetworks("127.0.0.1/32")
	s := h.greeted(t)
	s.ask("MAIL FROM:<a@example.org>", "250 ")
	s.ask("RCPT TO:<b@one.example>", "250 ")
	s.ask("RCPT TO:<b@plain.test>", "250 ")
	s.ask("DATA", "354 ")
	s.send("X-Spam-Flag: YES\r\n\r\nx\r\n.\r\n")
	s.want("250 ")
	for _, r := range h.accepted()[0].Recipients {
		if r.Spam != (r.Address == "b@one.example") {
			t.Errorf("%s: marked %t", r.Address, r.Spam)
		}
	}
	s.ask("MAIL FROM:<a@example.org>", "250 ")
	s.ask("RCPT TO:<b@two.example>", "452 4.2.2 ")
	s.ask("RCPT TO:<b@plain.test>", "250 ")
}

// A proxy in a relay network makes no trusted clients of those that it speaks for.
func TestRelayBehindAProxy(t *testing.T) {
	h := behindProxy(t, nil)
	h.setNetworks("127.0.0.0/8", "192.0.2.0/24")
	h.setDomain(relay.DefaultRoute, true)
	for _, c := range []struct{ header, want string }{
		{header(t, 1, "203.0.113.9:4711"), noRelay},
		{header(t, 2, "192.0.2.9:4711"), "250 "},
		{"PROXY UNKNOWN\r\n", noRelay},
		{"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", noRelay}, // for itself
	} {
		s := h.dial(t)
		s.send(c.header)
		s.want("220 ")
		s.ask("EHLO client.example", "250-")
		s.ask("MAIL FROM:<a@example.org>", "250 ")
		s.ask("RCPT TO:<b@other.example>", c.want)
	}
}
