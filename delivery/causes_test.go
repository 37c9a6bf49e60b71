package delivery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// names is a DNS of this machine: host.test is here, nowhere.test isn't
// anywhere, and nomail.test takes no mail.
type names struct{}

func (names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host != "host.test" {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

func (names) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	switch name {
	case "mail.test":
		return []*net.MX{{Host: "nowhere.test.", Pref: 5}, {Host: "host.test.", Pref: 10}}, nil
	case "nomail.test":
		return []*net.MX{{Host: ".", Pref: 0}}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// What a mail server does, and what becomes of the message and of the
// destination: DESIGN.md, "Destinations", case by case over real sockets.
func TestCauses(t *testing.T) {
	const (
		up   = pb.DestinationHealth_STATE_UP
		down = pb.DestinationHealth_STATE_DOWN
	)
	const (
		pending = pb.RecipientState_RECIPIENT_STATE_PENDING
		bounced = pb.RecipientState_RECIPIENT_STATE_BOUNCED
	)
	refuse := func(verb string, code int) sink.Config {
		return sink.Config{Answer: sink.On(verb, sink.Reply{Code: code, Enhanced: fmt.Sprintf("%d.0.0", code/100), Text: "no", Hangup: code == 421})}
	}
	stall := func(verb string) sink.Config {
		return sink.Config{Offer: sink.OfferWithout("CHUNKING"), Answer: sink.On(verb, sink.Reply{Hold: make(chan struct{})})}
	}
	hangup := func(verb string) sink.Config {
		return sink.Config{Offer: sink.OfferWithout("CHUNKING", "PIPELINING"), Answer: sink.On(verb, sink.Reply{Hangup: true})}
	}
	withTLS := func(config sink.Config) sink.Config { config.STARTTLS = true; return config }
	for _, tt := range []struct {
		name   string
		server *sink.Config // nil: nothing listens
		change func(*pb.DestinationConfig)

		cause, phase string
		code         uint32
		destination  pb.DestinationHealth_State
		recipient    pb.RecipientState
		attempts     uint32
		inDoubt      uint32
	}{
		// R2: the host can't take mail. Nothing counts, the breaker holds it.
		{name: "name doesn't resolve", change: func(c *pb.DestinationConfig) { c.Hosts[0].Address = "nowhere.test:25" },
			cause: "dns", phase: "dns", destination: down, recipient: pending},
		{name: "MX of a name that doesn't exist", change: func(c *pb.DestinationConfig) { c.Hosts, c.Mx = nil, "nowhere.test" },
			cause: "dns", phase: "dns", destination: down, recipient: pending},
		{name: "connection refused", change: func(c *pb.DestinationConfig) { c.Hosts[0].Address = "127.0.0.1:1" },
			cause: "refused", phase: "connect", destination: down, recipient: pending},
		{name: "no greeting", server: new(stall(sink.Connect)), cause: "timeout", phase: "greeting", destination: down, recipient: pending},
		{name: "421 greeting", server: new(refuse(sink.Connect, 421)), cause: "deferred", phase: "greeting", code: 421, destination: down, recipient: pending},
		{name: "554 greeting", server: new(refuse(sink.Connect, 554)), cause: "rejected", phase: "greeting", code: 554, destination: down, recipient: pending},
		{name: "550 to EHLO", server: new(refuse("EHLO", 550)), cause: "rejected", phase: "ehlo", code: 550, destination: down, recipient: pending},
		{name: "no STARTTLS", server: new(sink.Config{}), change: func(c *pb.DestinationConfig) { c.Tls = "require" },
			cause: "tls", phase: "tls", destination: down, recipient: pending},
		{name: "certificate of nobody we know", server: new(withTLS(sink.Config{})), change: func(c *pb.DestinationConfig) { c.Tls = "verify" },
			cause: "tls", phase: "tls", destination: down, recipient: pending},
		{name: "535 to AUTH", server: &sink.Config{Offer: append(sink.DefaultOffer(), "AUTH PLAIN"), Answer: sink.On("AUTH", sink.Reply{Code: 535, Text: "no"})},
			change: func(c *pb.DestinationConfig) { c.AuthUser, c.AuthPassword = "u", "p" },
			cause:  "auth", phase: "auth", code: 535, destination: down, recipient: pending},
		{name: "421 to MAIL", server: new(refuse("MAIL", 421)), cause: "deferred", phase: "mail", code: 421, destination: down, recipient: pending},
		{name: "421 in mid-session", server: new(refuse("RCPT", 421)), cause: "deferred", phase: "rcpt", code: 421, destination: down, recipient: pending},
		{name: "stalls at MAIL", server: new(stall("MAIL")), cause: "timeout", phase: "mail", destination: down, recipient: pending},
		{name: "stalls in the content", server: new(stall(sink.Dot)), cause: "timeout", phase: "dot", destination: up, recipient: pending, attempts: 1, inDoubt: 1},

		// The message's own failures: its policy decides, the destination is up.
		{name: "450 to RCPT", server: new(refuse("RCPT", 450)), cause: "deferred", phase: "rcpt", code: 450, destination: up, recipient: pending, attempts: 1},
		{name: "451 to the content", server: new(refuse(sink.Dot, 451)), cause: "deferred", phase: "dot", code: 451, destination: up, recipient: pending, attempts: 1},
		{name: "452 to one MAIL", server: new(refuse("MAIL", 452)), cause: "deferred", phase: "mail", code: 452, destination: up, recipient: pending, attempts: 1},
		{name: "closes at DATA", server: new(hangup("DATA")), cause: "closed", phase: "data", destination: up, recipient: pending, attempts: 1},
		{name: "closes after the final dot", server: new(hangup(sink.Dot)), cause: "closed", phase: "dot", destination: up, recipient: pending, attempts: 1, inDoubt: 1},

		// R3: final, unless the destination is set to hold.
		{name: "550 to MAIL", server: new(refuse("MAIL", 550)), cause: "rejected", phase: "mail", code: 550, destination: up, recipient: bounced, attempts: 1},
		{name: "550 to RCPT", server: new(refuse("RCPT", 550)), cause: "rejected", phase: "rcpt", code: 550, destination: up, recipient: bounced, attempts: 1},
		{name: "554 to the content", server: new(refuse(sink.Dot, 554)), cause: "rejected", phase: "dot", code: 554, destination: up, recipient: bounced, attempts: 1},
		{name: "null MX", change: func(c *pb.DestinationConfig) { c.Hosts, c.Mx = nil, "nomail.test" },
			cause: "dns", phase: "dns", code: 556, destination: up, recipient: bounced, attempts: 1},
		{name: "550 to RCPT, to be held", server: new(refuse("RCPT", 550)), change: func(c *pb.DestinationConfig) { c.HoldRejected = true },
			cause: "rejected", phase: "rcpt", code: 550, destination: up, recipient: pending, attempts: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", "b")
			if tt.cause == "timeout" {
				// Only where an answer never comes: another may take long.
				*map[string]*time.Duration{
					"greeting": &w.timeouts.Greeting, "mail": &w.timeouts.Mail, "dot": &w.timeouts.Dot,
				}[tt.phase] = 50 * time.Millisecond
			}
			w.resolver = names{}
			config := &pb.DestinationConfig{
				Name: "dest", Slots: 5, Tls: "none", ProbeMax: int64(probeMax), Hosts: []*pb.DestinationConfig_Host{{}},
			}
			if tt.server != nil {
				config.Hosts[0].Address = w.sink(*tt.server).Addr()
			}
			if tt.change != nil {
				tt.change(config)
			}
			w.set(config)
			w.route("example.test", "dest", 0)
			id := w.accept("", "user@example.test")
			w.runAll()
			w.await("the attempt is recorded", func() bool {
				r, h := w.recipient(id, 0), w.health("dest")
				return r.LastError != nil && h.State == tt.destination && r.State == tt.recipient
			})
			r := w.recipient(id, 0)
			if f := r.LastError; f.Cause != tt.cause || f.Phase != tt.phase || f.Code != tt.code || f.Text == "" {
				t.Errorf("last error %v, want %s at %s with %d", f, tt.cause, tt.phase, tt.code)
			}
			if r.Attempts != tt.attempts || r.InDoubt < tt.inDoubt {
				t.Errorf("%d attempts count, want %d; %d in doubt, want %d", r.Attempts, tt.attempts, r.InDoubt, tt.inDoubt)
			}
			if f := w.health("dest").Failure; tt.destination == down && (f.Cause != tt.cause || f.Code != tt.code) {
				t.Errorf("the destination is down for %v", f)
			}
		})
	}
}
