package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

func must[T any](t *testing.T, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// newCA makes an authority for an hour and gives its own certificate too.
func newCA(t *testing.T) (*CA, Pair) {
	t.Helper()
	pair, err := NewCA("test CA", From(time.Now(), time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ParseCA(pair)
	return must(t, ca, err), pair
}

func TestIdentityGoesThroughAHandshake(t *testing.T) {
	ca, _ := newCA(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	server := issue(t, ca, Identity{Node, "a"}, "localhost", "127.0.0.1", "::1")
	for _, id := range []Identity{{Node, "b.example-1"}, {Viewer, "grafana"}, {Operator, "alice@example.com"}, {Admin, "root"}} {
		client := issue(t, ca, id, hostsFor(id)...)
		serverSide, clientSide, err := handshake(
			&tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven},
			&tls.Config{Certificates: []tls.Certificate{client}, RootCAs: roots, ServerName: "127.0.0.1"})
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if got, err := FromState(serverSide); err != nil || got != id {
			t.Errorf("the server sees %v, %v, want %v", got, err, id)
		}
		if got, err := FromState(clientSide); err != nil || got != (Identity{Node, "a"}) {
			t.Errorf("the client sees %v, %v", got, err)
		}
		ctx := peer.NewContext(context.Background(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: serverSide}})
		if got, err := FromPeer(ctx); err != nil || got != id {
			t.Errorf("a gRPC method sees %v, %v, want %v", got, err, id)
		}
	}
}

func hostsFor(id Identity) []string {
	if id.Kind == Node {
		return []string{"localhost"}
	}
	return nil
}

func TestNobody(t *testing.T) {
	ca, _ := newCA(t)
	leaf := issue(t, ca, Identity{Admin, "root"}).Leaf
	if _, err := FromState(tls.ConnectionState{}); !errors.Is(err, ErrNone) {
		t.Errorf("without a certificate: %v", err)
	}
	if id, err := FromState(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("a certificate that nobody verified is %v, %v", id, err)
	}
	if _, err := FromPeer(context.Background()); !errors.Is(err, ErrNone) {
		t.Errorf("without a peer: %v", err)
	}
	if _, err := FromPeer(peer.NewContext(context.Background(), &peer.Peer{Addr: &net.UnixAddr{}})); !errors.Is(err, ErrNone) {
		t.Errorf("a peer without TLS: %v", err)
	}
}

func TestFromCertificate(t *testing.T) {
	for uris, want := range map[string]string{
		"holdfast://node/a":                             "",
		"spiffe://example.com/x holdfast://operator/al": "",
		"":                                               "0 URIs",
		"spiffe://example.com/node/a":                    "0 URIs",
		"holdfast://node/a holdfast://admin/a":           "2 URIs",
		"holdfast://node/a holdfast://node/a":            "2 URIs",
		"holdfast://boss/a":                              `kind "boss"`,
		"holdfast://NODE/a":                              `kind "NODE"`,
		"holdfast://node":                                "form",
		"holdfast://node/":                               `name ""`,
		"holdfast://node/a/b":                            `name "a/b"`,
		"holdfast://node/a@b":                            `name "a@b"`,
		"holdfast://node/%61":                            "form",
		"holdfast://node/a%2Fb":                          "form",
		"holdfast://node:1/a":                            "kind",
		"holdfast://x@node/a":                            "form",
		"holdfast://node/a?x=1":                          "form",
		"holdfast://node/a#x":                            "form",
		"holdfast:node/a":                                "form",
		"holdfast:///node/a":                             "kind",
		"holdfast://admin/" + strings.Repeat("a", 64):    "name",
		"holdfast://admin/a%20b":                         "name",
		"holdfast://admin/%D0%B0":                        "name",
		"holdfast://operator/alice%40example.com":        "form",
		"holdfast://operator/alice@example.com":          "",
		"holdfast://node/" + strings.Repeat("a", 63):     "",
		"holdfast://viewer/0 https://example.com/a?b=c#": "",
	} {
		cert := &x509.Certificate{}
		for text := range strings.FieldsSeq(uris) {
			uri, err := url.Parse(text)
			cert.URIs = append(cert.URIs, must(t, uri, err))
		}
		id, err := FromCertificate(cert)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, %v, want an error with %q", uris, id, err, want)
		}
	}
}

func issue(t *testing.T, ca *CA, id Identity, hosts ...string) tls.Certificate {
	t.Helper()
	pair, err := ca.Issue(id, hosts, Validity{ca.Cert.NotBefore, ca.Cert.NotAfter})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	return must(t, cert, err)
}

// handshake has both sides talk over a pipe, and tells what each saw.
func handshake(server, client *tls.Config) (s, c tls.ConnectionState, err error) {
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	serverSide, clientSide := tls.Server(left, server), tls.Client(right, client)
	served := make(chan error, 1)
	go func() {
		err := serverSide.Handshake()
		if err != nil {
			left.Close()
		}
		served <- err
	}()
	// In TLS 1.3 the client is done before the server has looked at its
	// certificate, and learns of a refusal only when it reads.
	err = clientSide.Handshake()
	if err != nil {
		right.Close()
	}
	go func() { _, _ = clientSide.Read(make([]byte, 1)) }()
	err = errors.Join(err, <-served)
	return serverSide.ConnectionState(), clientSide.ConnectionState(), err
}
