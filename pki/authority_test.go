package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func TestIssueRefuses(t *testing.T) {
	ca, _ := newCA(t)
	good := Validity{ca.Cert.NotBefore, ca.Cert.NotAfter}
	for _, tt := range []struct {
		id    Identity
		hosts string
		valid Validity
		want  string
	}{
		{Identity{Node, "a"}, "", good, "needs at least one host"},
		{Identity{Node, "a"}, "0.0.0.0", good, "not the one it listens on"},
		{Identity{Node, "a"}, "mx.example.net:7500", good, "without a port"},
		{Identity{Node, "a"}, "*.example.net", good, "want a DNS name"},
		{Identity{Node, "a"}, "-x", good, "want a DNS name"},
		{Identity{Node, "a b"}, "localhost", good, "as in node_id"},
		{Identity{Operator, "alice"}, "localhost", good, "only a node's certificate has hosts"},
		{Identity{Operator, ""}, "", good, `name ""`},
		{Identity{"", "alice"}, "", good, "kind"},
		{Identity{Admin, "root"}, "", Validity{good.NotBefore, good.NotAfter.Add(time.Second)}, "its CA only until"},
	} {
		_, err := ca.Issue(tt.id, strings.Fields(tt.hosts), tt.valid)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v at %q: %v, want an error with %q", tt.id, tt.hosts, err, tt.want)
		}
	}
}

func TestHostsAreVerified(t *testing.T) {
	ca, _ := newCA(t)
	leaf := issue(t, ca, Identity{Node, "a"}, "mx-a.example.net", "10.0.0.1", "10.0.0.1", "mx-a.example.net", "2001:db8::1").Leaf
	if len(leaf.DNSNames) != 1 || len(leaf.IPAddresses) != 2 {
		t.Errorf("hosts twice: %v %v", leaf.DNSNames, leaf.IPAddresses)
	}
	for host, want := range map[string]bool{"mx-a.example.net": true, "10.0.0.1": true, "[2001:db8::1]": true, "10.0.0.2": false, "a": false} {
		if err := leaf.VerifyHostname(host); (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestForeignAndExpired(t *testing.T) {
	ca, _ := newCA(t)
	foreign, _ := newCA(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	node := issue(t, ca, Identity{Node, "a"}, "127.0.0.1")
	operator := issue(t, ca, Identity{Operator, "alice"})
	for name, tt := range map[string]struct {
		server, client tls.Certificate
		later          time.Duration
		want           string
	}{
		"good":           {node, operator, 0, ""},
		"foreign client": {node, issue(t, foreign, Identity{Operator, "alice"}), 0, "unknown authority"},
		"foreign server": {issue(t, foreign, Identity{Node, "a"}, "127.0.0.1"), operator, 0, "unknown authority"},
		"expired":        {node, operator, 2 * time.Hour, "expired"},
	} {
		now := func() time.Time { return time.Now().Add(tt.later) }
		_, _, err := handshake(
			&tls.Config{Certificates: []tls.Certificate{tt.server}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, Time: now},
			// Else Go's client sends no certificate that the server doesn't want.
			&tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tt.client, nil },
				RootCAs: roots, ServerName: "127.0.0.1", Time: now})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.want)
		}
	}
}

// A client's certificate doesn't pass for a server's, whatever name is asked for.
func TestClientsAreNoServers(t *testing.T) {
	ca, _ := newCA(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	for _, kind := range []Kind{Viewer, Operator, Admin} {
		_, err := issue(t, ca, Identity{kind, "alice"}).Leaf.Verify(x509.VerifyOptions{Roots: roots})
		if err == nil || !strings.Contains(err.Error(), "incompatible key usage") {
			t.Errorf("a %s's certificate as a server's: %v", kind, err)
		}
	}
}

func TestParseCA(t *testing.T) {
	ca, pair := newCA(t)
	_, other := newCA(t)
	node, err := ca.Issue(Identity{Node, "a"}, []string{"localhost"}, Validity{ca.Cert.NotBefore, ca.Cert.NotAfter})
	must(t, node, err)
	for name, tt := range map[string]struct {
		pair Pair
		want string
	}{
		"a key of another": {Pair{pair.Cert, other.Key}, "private key does not match"},
		"a node's":         {node, "is not a certificate authority"},
		"no key":           {Pair{pair.Cert, nil}, "PEM"},
	} {
		if _, err := ParseCA(tt.pair); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.want)
		}
	}
}

func TestParseBundle(t *testing.T) {
	ca, one := newCA(t)
	_, two := newCA(t)
	node, err := ca.Issue(Identity{Node, "a"}, []string{"localhost"}, Validity{ca.Cert.NotBefore, ca.Cert.NotAfter})
	must(t, node, err)
	for name, tt := range map[string]struct {
		text []byte
		n    int
		want string
	}{
		"one":            {one.Cert, 1, ""},
		"two, commented": {bytes.Join([][]byte{[]byte("# old\n"), one.Cert, []byte("# new\n"), two.Cert}, nil), 2, ""},
		"empty":          {nil, 0, "not a file of PEM certificates"},
		"text":           {[]byte("hello"), 0, "not a file of PEM certificates"},
		"cut":            {append(bytes.Clone(one.Cert), two.Cert[:100]...), 0, "not a file of PEM certificates"},
		"with a key":     {append(bytes.Clone(one.Cert), one.Key...), 0, "PRIVATE KEY"},
		"a node's":       {append(bytes.Clone(one.Cert), node.Cert...), 0, "certificate 2, of \"a\", is not an authority's"},
	} {
		bundle, err := ParseBundle(tt.text)
		if len(bundle) != tt.n || tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %d certificates, %v, want %d and an error with %q", name, len(bundle), err, tt.n, tt.want)
		}
	}
}
