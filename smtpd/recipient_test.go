package smtpd

import (
	"context"
	"net/netip"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// RCPT is answered by what is known of the recipient. The postmaster whom the operator
// named, and recipients elsewhere, are asked for nowhere.
func TestRecipientsAreVerified(t *testing.T) {
	const slow = 50 * time.Millisecond // of a destination
	var asked []string
	var left []time.Duration
	h := start(t, func(cfg *Config, c *cluster) {
		cfg.Postmaster = func() string { return "office@example.org" }
		c.setNetworks("127.0.0.0/8")
		cfg.Verify = func(ctx context.Context, client netip.Addr, domain *pb.DomainConfig, address string) *relay.Reply {
			asked = append(asked, client.String()+" "+domain.Name+" "+address)
			deadline, _ := ctx.Deadline()
			left = append(left, time.Until(deadline))
			switch address {
			case "bert@example.org":
				<-time.After(slow)
				return reply(550, "5.1.1", "no such recipient")
			case "carl@example.org":
				return reply(450, "4.4.3", "not now")
			}
			return nil
		}
	})
	h.setDomain(relay.DefaultRoute, true)
	c := h.greeted(t)
	for _, step := range []struct{ command, want string }{
		{"MAIL FROM:<a@example.com>", "250 "},
		{"RCPT TO:<bert@example.org>", "550 5.1.1 no such recipient"},
		{"RCPT TO:<carl@example.org>", "450 4.4.3 not now"},
		// Who looks at DATA's reply alone must come again for carl.
		{"DATA", "451 4.5.1"},
		{"RCPT TO:<Anna@EXAMPLE.org>", "250 2.1.5"},
		{"RCPT TO:<Postmaster>", "250 2.1.5"},
		{"RCPT TO:<dora@elsewhere.example>", "250 2.1.5"},
	} {
		c.ask(step.command, step.want)
	}
	want := []string{"127.0.0.1 example.org bert@example.org", "127.0.0.1 example.org carl@example.org", "127.0.0.1 example.org Anna@EXAMPLE.org"}
	if len(asked) != len(want) || asked[0] != want[0] || asked[1] != want[1] || asked[2] != want[2] {
		t.Errorf("asked for %q", asked)
	}
	// All of a transaction's recipients share its patience.
	if left[0] > maxVerifying || left[1] > maxVerifying-slow || left[2] > maxVerifying-slow {
		t.Errorf("time left for each: %v", left)
	}
}
