package smtpout

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"holdfast/relay"
)

// Resolver answers questions about names.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
}

// Dialer makes connections to the hosts of destinations. It may be used by
// several goroutines; it must not be changed after its first use.
type Dialer struct {
	// Resolver looks names up; *net.Resolver fits. nil is the system's.
	Resolver Resolver
	// Dial connects to an IP address and port; nil is a net.Dialer.
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	LocalName string           // name for EHLO, required
	Timeouts  Timeouts         // zero fields mean DefaultTimeouts
	TLSConfig *tls.Config      // base; nil for the defaults. Name and verification are set per host
	Now       func() time.Time // clock for Failure.At; nil is time.Now
	// Trace, if set, sees each command that is written and each reply line that
	// is read, never content. It is called on the goroutine of Connect or Send.
	Trace func(sent bool, line string)
}

// Connect opens a connection to host ("name:port" or "address:port") and takes
// it through greeting, EHLO, TLS, and AUTH where login isn't nil. Addresses are
// tried in the resolver's order until one connects; the last one's failure is
// returned if none does.
//
// Every error is a *relay.Failure. One whose Phase is relay.PhaseTLS under
// relay.TLSOpportunistic means that STARTTLS was begun and failed: the caller
// may connect again with relay.TLSNone. A peer that doesn't offer STARTTLS, or
// answers it with a refusal, is talked to in the clear at that level.
func (d *Dialer) Connect(ctx context.Context, host string, level relay.TLS, login *Login) (*Conn, error) {
	c := d.newConn(host)
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return nil, c.failure(relay.PhaseDNS, &net.DNSError{Err: err.Error(), Name: host})
	}
	addresses, err := d.lookup(ctx, name, c.timeouts.Lookup)
	if err != nil {
		if ctx.Err() != nil {
			return nil, c.failure(relay.PhaseDNS, cancelled(ctx))
		}
		failure := c.failure(relay.PhaseDNS, err)
		failure.Cause = relay.CauseDNS // a resolver that times out is no mail host that does
		return nil, failure
	}
	if err := d.dialAny(ctx, c, addresses, port); err != nil {
		return nil, c.failure(relay.PhaseConnect, err)
	}
	release := c.bind(ctx)
	failure := c.open(level, name, d.TLSConfig)
	if failure == nil && login != nil {
		failure = c.authenticate(login)
	}
	release()
	if failure != nil {
		c.Abort()
		return nil, failure
	}
	return c, nil
}

func (d *Dialer) newConn(host string) *Conn {
	c := &Conn{
		host: host, localName: d.LocalName, timeouts: d.Timeouts.withDefaults(),
		now: d.Now, trace: d.Trace,
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c
}

func (d *Dialer) lookup(ctx context.Context, name string, limit time.Duration) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{address}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	addresses, err := d.resolver().LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, &net.DNSError{Err: "no address", Name: name, IsNotFound: true}
	}
	return addresses, nil
}

func (d *Dialer) resolver() Resolver {
	if d.Resolver == nil {
		return net.DefaultResolver
	}
	return d.Resolver
}

// dialAny connects to the first address that takes it.
func (d *Dialer) dialAny(ctx context.Context, c *Conn, addresses []netip.Addr, port string) error {
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	var last error
	for _, address := range addresses {
		c.address = net.JoinHostPort(address.Unmap().String(), port)
		attempt, cancel := context.WithTimeout(ctx, c.timeouts.Connect)
		conn, err := dial(attempt, "tcp", c.address)
		cancel()
		if err == nil {
			c.tcp, c.stream = conn, conn
			c.r = bufio.NewReaderSize(conn, maxReplyLine)
			return nil
		}
		if ctx.Err() != nil {
			return cancelled(ctx)
		}
		last = err
	}
	return last
}

// open takes a fresh connection through greeting, EHLO and TLS.
func (c *Conn) open(level relay.TLS, name string, base *tls.Config) *relay.Failure {
	if f := c.expect(relay.PhaseGreeting, c.timeouts.Greeting); f != nil {
		return f
	}
	if f := c.hello(); f != nil {
		return f
	}
	if level == relay.TLSNone {
		return nil
	}
	secured, f := c.startTLS(level, name, base)
	if f != nil || !secured {
		return f
	}
	// What was offered in the clear may be a man in the middle's: ask again
	// (RFC 3207 section 4.2).
	return c.hello()
}

// startTLS secures the connection; secured is false where an opportunistic
// one stays in the clear.
func (c *Conn) startTLS(level relay.TLS, name string, base *tls.Config) (secured bool, f *relay.Failure) {
	if !c.ext.startTLS {
		if level == relay.TLSOpportunistic {
			return false, nil
		}
		return false, c.tlsFailure(errors.New("the remote does not offer STARTTLS"))
	}
	said, err := c.ask("STARTTLS\r\n", c.timeouts.Hello)
	switch {
	case err != nil:
		return false, c.failure(relay.PhaseTLS, err)
	case said.refused():
		refusal := c.refusal(relay.PhaseTLS, said)
		if level == relay.TLSOpportunistic && said.code != 421 {
			return false, nil
		}
		refusal.Cause = relay.CauseTLS
		return false, refusal
	case said.code != 220:
		return false, c.failure(relay.PhaseTLS, unexpected(said))
	}
	return c.handshake(level, name, base)
}

func (c *Conn) handshake(level relay.TLS, name string, base *tls.Config) (bool, *relay.Failure) {
	config := &tls.Config{}
	if base != nil {
		config = base.Clone()
	}
	config.ServerName = name
	config.InsecureSkipVerify = level != relay.TLSVerify // "encrypted, any certificate"
	secure := tls.Client(c.tcp, config)
	if err := c.setDeadline(time.Now().Add(c.timeouts.TLS)); err != nil {
		return false, c.failure(relay.PhaseTLS, err)
	}
	if err := secure.Handshake(); err != nil {
		err = c.explain(err)
		if cause := causeOf(err); cause == relay.CauseTimeout || c.stopped() {
			return false, c.failure(relay.PhaseTLS, err)
		}
		return false, c.tlsFailure(err)
	}
	c.stream = secure
	// The old reader may hold what somebody sent in the clear behind the 220
	// for us to take as encrypted replies: it goes (RFC 3207 section 6).
	c.r = bufio.NewReaderSize(secure, maxReplyLine)
	c.tlsVersion = tls.VersionName(secure.ConnectionState().Version)
	return true, nil
}

func (c *Conn) tlsFailure(err error) *relay.Failure {
	f := c.failure(relay.PhaseTLS, err)
	f.Cause = relay.CauseTLS
	return f
}
