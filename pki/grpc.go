package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// ForServer secures a gRPC server for nodes and clients. A client may show no
// certificate: it comes with a token then, or its calls are refused.
func (c *Credentials) ForServer() credentials.TransportCredentials { return transport{c: c} }

// ForNode secures connections to a node, "" to any node of the cluster.
func (c *Credentials) ForNode(name string) credentials.TransportCredentials {
	return transport{c: c, node: name}
}

// transport implements credentials.TransportCredentials. gRPC's own would go on
// with the certificates of its beginning.
type transport struct {
	c    *Credentials
	node string
}

func (t transport) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, err := t.c.Dial(ctx, raw, t.node, protocolGRPC)
	if err != nil {
		return nil, nil, err
	}
	return conn, conn.tlsInfo(), nil
}

// stranger is a connection of a listener that counts those of strangers.
type stranger interface {
	Known()
	Unknown()
}

// ServerHandshake implements credentials.TransportCredentials. The server has
// set a deadline on the connection, and closes it when it stops. A listener that
// counts strangers is told who is none: whoever shows a certificate of the CA, or
// later a token (Known).
func (t transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	anyone := func(Identity) error { return nil }
	conn, err := t.c.accept(raw, protocolGRPC, tls.VerifyClientCertIfGiven, anyone)
	if err != nil {
		return nil, nil, err
	}
	counted, ok := raw.(stranger)
	if !ok {
		return conn, conn.tlsInfo(), nil
	}
	if conn.Peer != (Identity{}) {
		counted.Known()
	}
	return conn, countedInfo{conn.tlsInfo(), counted}, nil
}

// countedInfo is the TLSInfo of a connection that counts.
type countedInfo struct {
	credentials.TLSInfo
	stranger
}

// Known takes the connection that a call came over out of the count of its listener:
// the caller has shown who they are in another way than by a certificate.
func Known(ctx context.Context) {
	if counted, ok := countedOf(ctx); ok {
		counted.Known()
	}
}

// Unknown counts it again: what the caller shows is good no longer. Who has a
// certificate is known by that.
func Unknown(ctx context.Context) {
	if _, err := FromPeer(ctx); err == nil {
		return
	}
	if counted, ok := countedOf(ctx); ok {
		counted.Unknown()
	}
}

func countedOf(ctx context.Context) (stranger, bool) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil, false
	}
	counted, ok := from.AuthInfo.(stranger)
	return counted, ok
}

// Encrypted reports whether a call came over TLS.
func Encrypted(from *peer.Peer) bool {
	_, ok := tlsInfo(from.AuthInfo)
	return ok
}

func tlsInfo(info credentials.AuthInfo) (credentials.TLSInfo, bool) {
	switch info := info.(type) {
	case credentials.TLSInfo:
		return info, true
	case countedInfo:
		return info.TLSInfo, true
	}
	return credentials.TLSInfo{}, false
}

func (c *Conn) tlsInfo() credentials.TLSInfo {
	return credentials.TLSInfo{
		State:          c.state,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}
}

func (t transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (t transport) Clone() credentials.TransportCredentials { return t }

// OverrideServerName implements credentials.TransportCredentials, which is done
// with it: names of hosts count for nothing here.
func (t transport) OverrideServerName(string) error {
	return errors.New("a node is known by its certificate's URI")
}
