package smtpout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"holdfast/relay"
)

// port is where mail servers take mail of other servers.
const port = "25"

// LookupMX finds the hosts of a name as RFC 5321 section 5.1 says: its MX
// records, or the name itself where it has none. A host of our own name, and
// those that are no better than it, are left out: mail to them would loop.
//
// Every error is a *relay.Failure; a null MX record (RFC 7505) is one with the
// code 556, which is permanent.
func (d *Dialer) LookupMX(ctx context.Context, name string) ([]relay.Host, error) {
	c := d.newConn("")
	limited, cancel := context.WithTimeout(ctx, c.timeouts.Lookup)
	defer cancel()
	records, err := d.resolver().LookupMX(limited, name)
	var dns *net.DNSError
	switch {
	case ctx.Err() != nil:
		return nil, c.failure(relay.PhaseDNS, cancelled(ctx))
	case len(records) == 0 && errors.As(err, &dns) && dns.IsNotFound, len(records) == 0 && err == nil:
		// Whether the name exists at all, the look-up of its address will tell.
		return []relay.Host{{Address: net.JoinHostPort(name, port), Weight: 1}}, nil
	case len(records) == 0:
		failure := c.failure(relay.PhaseDNS, fmt.Errorf("MX records of %s: %w", name, err))
		failure.Cause = relay.CauseDNS
		return nil, failure
	case len(records) == 1 && strings.Trim(records[0].Host, ".") == "":
		failure := c.ownFailure(relay.PhaseDNS, 556, "5.1.10", name+" takes no mail (null MX)")
		failure.Cause = relay.CauseDNS
		return nil, failure
	}
	hosts := d.withoutLoop(records)
	if len(hosts) == 0 {
		failure := c.failure(relay.PhaseDNS, fmt.Errorf("the best MX record of %s is this server itself", name))
		failure.Cause = relay.CauseDNS
		return nil, failure
	}
	return hosts, nil
}

func (d *Dialer) withoutLoop(records []*net.MX) []relay.Host {
	worst := 1 << 16
	for _, r := range records {
		if strings.EqualFold(strings.TrimSuffix(r.Host, "."), d.LocalName) {
			worst = min(worst, int(r.Pref))
		}
	}
	var hosts []relay.Host
	for _, r := range records {
		host := strings.TrimSuffix(r.Host, ".")
		if host != "" && int(r.Pref) < worst {
			hosts = append(hosts, relay.Host{
				Address: net.JoinHostPort(host, port), Priority: uint32(r.Pref), Weight: 1,
			})
		}
	}
	return hosts
}
