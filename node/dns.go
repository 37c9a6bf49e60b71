package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

func (c DNSConfig) validate() error {
	for _, server := range c.Servers {
		if _, err := dnsServer(server); err != nil {
			return err
		}
	}
	return nil
}

// Resolver asks the configured servers in turn, one for each connection, or is
// the system's where none is configured. Validate comes first.
func (c DNSConfig) Resolver() *net.Resolver {
	if len(c.Servers) == 0 {
		return net.DefaultResolver
	}
	var turn atomic.Uint32
	return &net.Resolver{
		PreferGo: true, // the C library wouldn't use Dial
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			n := turn.Add(1) - 1
			server, err := dnsServer(c.Servers[int(n)%len(c.Servers)])
			if err != nil {
				return nil, err
			}
			var d net.Dialer
			return d.DialContext(ctx, network, server.String())
		},
	}
}

// dnsServer reads IP or IP:port.
func dnsServer(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, 53), nil
	}
	server, err := netip.ParseAddrPort(s)
	if err != nil || server.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("dns.servers %q: want IP or IP:PORT", s)
	}
	return server, nil
}
