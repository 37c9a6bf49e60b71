package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/grpc/peer"
)

// Kind is what the bearer of a certificate is: a node, or a client in a role.
type Kind string

// The kinds, as they stand in certificates and on the command line.
const (
	Node     Kind = "node"
	Viewer   Kind = "viewer"
	Operator Kind = "operator"
	Admin    Kind = "admin"
)

// Identity is who a certificate was issued to.
type Identity struct {
	Kind Kind
	Name string
}

// scheme is that of the one URI in a certificate that holds its identity.
const scheme = "holdfast"

var (
	nodeName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)  // as node_id
	clientName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`) // mail addresses too
)

// ErrNone is returned where the other end has shown no certificate.
var ErrNone = errors.New("no certificate was shown")

// String is the identity as it stands in the certificate.
func (id Identity) String() string { return id.uri().String() }

func (id Identity) uri() *url.URL {
	return &url.URL{Scheme: scheme, Host: string(id.Kind), Path: "/" + id.Name}
}

// Validate reports a kind that doesn't exist and a name that can't be one.
func (id Identity) Validate() error {
	switch id.Kind {
	case Node:
		if !nodeName.MatchString(id.Name) {
			return fmt.Errorf("node name %q: want 1 to 63 letters, digits, \".\", \"_\" or \"-\", as in node_id", id.Name)
		}
	case Viewer, Operator, Admin:
		if !clientName.MatchString(id.Name) {
			return fmt.Errorf("name %q: want 1 to 63 letters, digits, \".\", \"_\", \"-\" or \"@\"", id.Name)
		}
	default:
		return fmt.Errorf("kind %q: want node, viewer, operator or admin", id.Kind)
	}
	return nil
}

// FromCertificate reads the identity of a certificate, which somebody else has
// verified. Exactly one URI of our scheme, written in the one way that Issue
// writes it: what could be read in two ways is nobody's identity.
func FromCertificate(cert *x509.Certificate) (Identity, error) {
	var found []*url.URL
	for _, uri := range cert.URIs {
		if uri.Scheme == scheme {
			found = append(found, uri)
		}
	}
	if len(found) != 1 {
		return Identity{}, fmt.Errorf("the certificate of %q has %d URIs of the form holdfast://KIND/NAME, want one: issue it with `holdfast tls issue`", cert.Subject.CommonName, len(found))
	}
	id := Identity{Kind: Kind(found[0].Host), Name: strings.TrimPrefix(found[0].Path, "/")}
	if id.String() != found[0].String() {
		return Identity{}, fmt.Errorf("the certificate's URI %q is not of the form holdfast://KIND/NAME", found[0])
	}
	if err := id.Validate(); err != nil {
		return Identity{}, fmt.Errorf("the certificate's URI %q: %w", found[0], err)
	}
	return id, nil
}

// FromState reads the identity at the other end of a TLS connection. ErrNone:
// it showed no certificate. One that wasn't verified is an error.
func FromState(state tls.ConnectionState) (Identity, error) {
	if len(state.PeerCertificates) == 0 {
		return Identity{}, ErrNone
	}
	if len(state.VerifiedChains) == 0 {
		return Identity{}, errors.New("the certificate was not verified")
	}
	return FromCertificate(state.VerifiedChains[0][0])
}

// FromPeer reads the identity of the caller of a gRPC method, from the TLS
// connection that the call came over. ErrNone: there is no TLS, or the caller
// showed no certificate.
func FromPeer(ctx context.Context) (Identity, error) {
	caller, ok := peer.FromContext(ctx)
	if !ok {
		return Identity{}, ErrNone
	}
	info, ok := tlsInfo(caller.AuthInfo)
	if !ok {
		return Identity{}, ErrNone
	}
	return FromState(info.State)
}
