package pki

import (
	"crypto/tls"
	"net"
	"testing"

	"google.golang.org/grpc/peer"
)

// counted is a connection of a listener that counts strangers.
type counted struct {
	net.Conn
	known bool
}

func (c *counted) Known() { c.known = true }

func (c *counted) Unknown() { c.known = false }

// Who shows a certificate of the CA is no stranger; who comes with a token is one
// until that is known to be good.
func TestKnownByACertificate(t *testing.T) {
	ca, pair := newCA(t)
	a := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "a"}).open("a")
	b := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "b"}).open("b")
	for name, client := range map[string]func(net.Conn) error{
		"node": func(raw net.Conn) error {
			_, _, err := b.ForNode("a").ClientHandshake(t.Context(), "", raw)
			return err
		},
		"token": func(raw net.Conn) error {
			anyone := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocolGRPC}}
			return tls.Client(raw, anyone).HandshakeContext(t.Context())
		},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		l = must(t, l, err)
		t.Cleanup(func() { l.Close() })
		raw, err := net.Dial("tcp", l.Addr().String())
		raw = must(t, raw, err)
		t.Cleanup(func() { raw.Close() })
		shaken := make(chan error, 1)
		go func() { shaken <- client(raw) }()
		in, err := l.Accept()
		server := &counted{Conn: must(t, in, err)}
		t.Cleanup(func() { server.Close() })
		_, info, err := a.ForServer().ServerHandshake(server)
		if clientErr := <-shaken; err != nil || clientErr != nil {
			t.Fatalf("%s: handshake %v, %v", name, err, clientErr)
		}
		if want := name == "node"; server.known != want {
			t.Errorf("%s: known %v, want %v", name, server.known, want)
		}
		ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: info})
		if id, err := FromPeer(ctx); (err == nil) != (name == "node") || name == "node" && id != (Identity{Node, "b"}) {
			t.Errorf("%s: the caller is %v, %v", name, id, err)
		}
		if Known(ctx); !server.known {
			t.Errorf("%s: a stranger still, once a token was good", name)
		}
		if Unknown(ctx); server.known != (name == "node") {
			t.Errorf("%s: known %v once a token was good no longer", name, server.known)
		}
	}
}
