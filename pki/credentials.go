package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Credentials are a node's authorities, certificate and key. They do the
// handshakes of all its connections, so that a reload counts for each that is
// made from then on, and know those that are open (open.go).
type Credentials struct {
	files   Files
	id      Identity
	now     func() time.Time
	current atomic.Pointer[material]

	mu   sync.Mutex // guards open
	open map[*Conn]struct{}
}

// Open reads the files of a node. What is wrong with them is said by their
// names in the node file.
func Open(files Files, node string, now func() time.Time) (*Credentials, error) {
	c := &Credentials{files: files, id: Identity{Kind: Node, Name: node}, now: now, open: map[*Conn]struct{}{}}
	m, err := files.load(c.id, now())
	if err != nil {
		return nil, err
	}
	c.current.Store(m)
	return c, nil
}

// Reload reads the files again. Where they are broken, or don't fit together,
// an error says so and everything stays as it was. Connections of certificates
// that are trusted no more are closed.
func (c *Credentials) Reload() ([]Closed, error) {
	m, err := c.files.load(c.id, c.now())
	if err != nil {
		return nil, err
	}
	c.current.Store(m)
	return c.Recheck(), nil
}

// Conn is a connection after its handshake.
type Conn struct {
	*tls.Conn
	// Peer is who is at the other end; zero where it showed no certificate.
	Peer Identity

	credentials *Credentials
	state       tls.ConnectionState
	usage       x509.ExtKeyUsage      // as which the other end's certificate was verified
	chains      [][]*x509.Certificate // of a dialled node, which crypto/tls doesn't know
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.credentials.forget(c)
	return c.Conn.Close()
}

// Protocols of the connections, for ALPN: a connection meant for the one ends
// at a listener of the other.
const (
	ProtocolRaft = "holdfast-raft"
	protocolGRPC = "h2"
)

// Accept does the server's side of a handshake with another node: nobody else
// gets through it. A deadline on the connection bounds it.
func (c *Credentials) Accept(raw net.Conn, protocol string) (*Conn, error) {
	return c.accept(raw, protocol, tls.RequireAndVerifyClientCert, func(id Identity) error {
		if id.Kind != Node {
			return fmt.Errorf("%s is no node", id)
		}
		return nil
	})
}

func (c *Credentials) accept(raw net.Conn, protocol string, auth tls.ClientAuthType, admit func(Identity) error) (*Conn, error) {
	m := c.current.Load()
	conn := &Conn{credentials: c, usage: x509.ExtKeyUsageClientAuth}
	conn.Conn = tls.Server(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, Time: c.now,
		Certificates: []tls.Certificate{m.pair}, ClientCAs: m.pool, ClientAuth: auth,
		// A resumed session would go by what was trusted when it was new.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			conn.Peer, err = FromState(state)
			if errors.Is(err, ErrNone) {
				return nil
			}
			if err != nil {
				return err
			}
			return admit(conn.Peer)
		},
	})
	return conn, conn.shake(m, conn.Handshake)
}

// Dial does the client's side of a handshake with a node. Its name counts, not
// its address: that may change, and says nothing of who answers there. "" takes
// any node of the cluster.
func (c *Credentials) Dial(ctx context.Context, raw net.Conn, node, protocol string) (*Conn, error) {
	m := c.current.Load()
	conn := &Conn{credentials: c, usage: x509.ExtKeyUsageServerAuth}
	conn.Conn = tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, Time: c.now,
		Certificates: []tls.Certificate{m.pair},
		// Skipped is what goes by the host's name; VerifyConnection does the rest.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			if conn.chains, err = m.verify(state.PeerCertificates, conn.usage, c.now()); err != nil {
				return err
			}
			conn.Peer, err = FromCertificate(state.PeerCertificates[0])
			if err == nil && (conn.Peer.Kind != Node || node != "" && conn.Peer.Name != node) {
				err = fmt.Errorf("here answers %s, not %s", conn.Peer, Identity{Node, node})
			}
			return err
		},
	})
	return conn, conn.shake(m, func() error { return conn.HandshakeContext(ctx) })
}

// shake does the handshake under the material that it was set up with.
func (c *Conn) shake(m *material, handshake func() error) error {
	err := handshake()
	c.state = c.ConnectionState()
	if c.chains != nil {
		c.state.VerifiedChains = c.chains
	}
	if err == nil {
		err = c.credentials.remember(c, m)
	}
	if err != nil {
		c.NetConn().Close() // the handshake's error says more
		return fmt.Errorf("TLS: %w", err)
	}
	return nil
}
