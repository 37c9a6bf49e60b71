package pki

import (
	"crypto/x509"
	"time"
)

// Closed is a connection that was ended because of its certificate.
type Closed struct {
	Peer   Identity
	Remote string
	Reason error
}

// remember counts a connection as open. A reload during its handshake may have
// changed what is trusted.
func (c *Credentials) remember(conn *Conn, by *material) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.current.Load(); now != by {
		if err := c.still(conn, now); err != nil {
			return err
		}
	}
	c.open[conn] = struct{}{}
	return nil
}

func (c *Credentials) forget(conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// Recheck verifies the certificates of all open connections anew and closes
// those that a handshake would refuse now. Connections to nodes and streams
// live for months: without this a CA that was taken out would go on in them.
func (c *Credentials) Recheck() []Closed {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.current.Load()
	var closed []Closed
	for conn := range c.open {
		if err := c.still(conn, m); err != nil {
			closed = append(closed, Closed{Peer: conn.Peer, Remote: conn.RemoteAddr().String(), Reason: err})
			delete(c.open, conn)
			// Not the TLS connection: its goodbye could wait for a peer that
			// doesn't read. Its user finds it broken and closes it.
			conn.NetConn().Close()
		}
	}
	return closed
}

// still reports why a connection's certificate isn't good any more. A node's
// that has only expired is: it gets no new connection, but to cut those that
// are there would stop the mail of a whole cluster at one stroke of the clock.
func (c *Credentials) still(conn *Conn, m *material) error {
	if len(conn.state.PeerCertificates) == 0 {
		return nil
	}
	_, err := m.verify(conn.state.PeerCertificates, conn.usage, c.now())
	if err != nil && expired(err) && conn.Peer.Kind == Node {
		_, err = m.verify(conn.state.PeerCertificates, conn.usage, conn.state.PeerCertificates[0].NotAfter)
	}
	return err
}

// Expiry is until when one of the certificates of a node is good.
type Expiry struct {
	// Use is what for: "ca", "node" or "smtp".
	Use string
	// Name is whose, for people.
	Name     string
	NotAfter time.Time
}

// Expiries are those of the authorities and of the node's certificate.
func (c *Credentials) Expiries() []Expiry {
	m := c.current.Load()
	var all []Expiry
	for _, ca := range m.bundle {
		all = append(all, ExpiryOf("ca", ca))
	}
	return append(all, ExpiryOf("node", m.pair.Leaf))
}

// ExpiryOf is a certificate's.
func ExpiryOf(use string, cert *x509.Certificate) Expiry {
	return Expiry{Use: use, Name: cert.Subject.CommonName, NotAfter: cert.NotAfter}
}
