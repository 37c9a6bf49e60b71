package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"
)

// Pair is a certificate and its private key, both PEM.
type Pair struct {
	Cert []byte
	Key  []byte
}

// Validity is from when until when a certificate is good.
type Validity struct {
	NotBefore, NotAfter time.Time
}

// From begins a little in the past, so that a machine whose clock is behind
// the issuer's takes the certificate right away.
func From(now time.Time, lasts time.Duration) Validity {
	return Validity{NotBefore: now.Add(-10 * time.Minute), NotAfter: now.Add(lasts)}
}

// CA is a cluster's certificate authority.
type CA struct {
	Cert *x509.Certificate
	key  any // a crypto.Signer
}

// NewCA makes an authority that signs certificates of nodes and clients, and
// no other authorities.
func NewCA(name string, valid Validity) (Pair, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: valid.NotBefore, NotAfter: valid.NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return sign(template, nil)
}

// ParseCA reads what NewCA made.
func ParseCA(pair Pair) (*CA, error) {
	loaded, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, err
	}
	if !loaded.Leaf.IsCA {
		return nil, fmt.Errorf("%q is not a certificate authority", loaded.Leaf.Subject.CommonName)
	}
	return &CA{Cert: loaded.Leaf, key: loaded.PrivateKey}, nil
}

// Issue signs a certificate for an identity. Hosts are the DNS names and IP
// addresses at which clients reach a node; a client's certificate has none, and
// can't be used to pose as a server.
func (ca *CA) Issue(id Identity, hosts []string, valid Validity) (Pair, error) {
	if err := id.Validate(); err != nil {
		return Pair{}, err
	}
	if valid.NotAfter.After(ca.Cert.NotAfter) {
		return Pair{}, fmt.Errorf("the certificate would be valid until %s, its CA only until %s",
			valid.NotAfter.UTC().Format(time.RFC3339), ca.Cert.NotAfter.UTC().Format(time.RFC3339))
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: id.Name, OrganizationalUnit: []string{string(id.Kind)}},
		NotBefore: valid.NotBefore, NotAfter: valid.NotAfter,
		URIs:        []*url.URL{id.uri()},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if id.Kind == Node {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		if err := addHosts(template, hosts); err != nil {
			return Pair{}, err
		}
	} else if len(hosts) > 0 {
		return Pair{}, errors.New("only a node's certificate has hosts")
	}
	return sign(template, ca)
}

func addHosts(template *x509.Certificate, hosts []string) error {
	if len(hosts) == 0 {
		return errors.New("a node needs at least one host: the DNS name or IP address at which it is reached")
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			if ip.IsUnspecified() {
				return fmt.Errorf("host %q: want an address at which the node is reached, not the one it listens on", host)
			}
			if !slices.ContainsFunc(template.IPAddresses, ip.Equal) {
				template.IPAddresses = append(template.IPAddresses, ip)
			}
			continue
		}
		if !validHost(host) {
			return fmt.Errorf("host %q: want a DNS name or an IP address, without a port", host)
		}
		if !slices.Contains(template.DNSNames, host) {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return nil
}

// sign makes a key and has its certificate signed, by itself where there is no
// authority yet.
func sign(template *x509.Certificate, ca *CA) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	parent, signer := template, any(key)
	if ca != nil {
		parent, signer = ca.Cert, ca.key
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}, nil
}
