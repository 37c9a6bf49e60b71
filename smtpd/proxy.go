package smtpd

import (
	"cmp"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// maxProxyHeader is how long a proxy may take for its header, which it sends
// before anything else and doesn't have to ask anybody for.
const maxProxyHeader = 10 * time.Second

// proxied reports whether a peer speaks for clients by the PROXY protocol.
func (c *Config) proxied(peer netip.Addr) bool {
	for _, network := range c.ProxyFrom {
		if network.Contains(peer) {
			return true
		}
	}
	return false
}

// introduce finds out for whom a proxy has made the connection, before anything
// else is said. Where it speaks for itself, as in its health checks, or doesn't
// know for whom, the client is the proxy.
func (s *session) introduce() error {
	if !s.server.cfg.proxied(s.client) {
		return nil
	}
	client, err := s.conn.readProxyHeader(s.client)
	switch {
	case err == nil && client == s.client:
		return nil
	case err == nil:
		return s.answer(s.server.reassign(s, client), nil)
	case s.conn.isStopping(), errors.Is(err, io.EOF): // a health check that only connects
		return err
	}
	s.log.Debug("no PROXY header", "error", err)
	s.command = "PROXY"
	return s.answer(noProxyHeader, nil)
}

// readProxyHeader takes either version of the header off the connection.
func (c *conn) readProxyHeader(peer netip.Addr) (netip.Addr, error) {
	c.deadline = time.Now().Add(min(maxProxyHeader, c.cfg.CommandTimeout))
	c.setIdle(true)
	defer c.setIdle(false)
	header, err := proxyproto.Read(c.br)
	if err != nil {
		return peer, cmp.Or(c.broken, err) // the library hides an end of file
	}
	source, _, ok := header.TCPAddrs()
	if header.Command.IsLocal() || !ok {
		return peer, nil
	}
	return source.AddrPort().Addr().Unmap().WithZone(""), nil
}
