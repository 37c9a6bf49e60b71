package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// Files are the paths of a node's PEM files, as in the node file under [tls].
type Files struct {
	CA, Cert, Key string
}

// material is what the files held when they were read.
type material struct {
	bundle []*x509.Certificate
	pool   *x509.CertPool
	pair   tls.Certificate
}

// load reads the files and refuses whatever the other nodes would refuse.
func (f Files) load(id Identity, now time.Time) (*material, error) {
	m := &material{pool: x509.NewCertPool()}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("tls.ca: %w", err)
	}
	if m.bundle, err = ParseBundle(text); err != nil {
		return nil, fmt.Errorf("tls.ca: %s: %w", f.CA, err)
	}
	for _, ca := range m.bundle {
		m.pool.AddCert(ca)
	}
	if m.pair, err = LoadPair(f.Cert, f.Key); err != nil {
		return nil, fmt.Errorf("tls.cert and tls.key: %w", err)
	}
	if err := m.check(id, now); err != nil {
		return nil, fmt.Errorf("tls.cert: %s: %w", f.Cert, err)
	}
	return m, nil
}

// LoadPair reads a certificate and its key; its errors name the files.
func LoadPair(cert, key string) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if _, ok := errors.AsType[*os.PathError](err); ok || err == nil {
		return pair, err
	}
	return pair, fmt.Errorf("%s and %s: %w", cert, key, err)
}

// check wants the node's own certificate, of a CA that the node trusts itself:
// a bundle without it would cut the node off from all that have the same one.
func (m *material) check(want Identity, now time.Time) error {
	id, err := FromCertificate(m.pair.Leaf)
	if err != nil {
		return err
	}
	if id != want {
		return fmt.Errorf("it is for %s, not for %s", id, want)
	}
	chain := []*x509.Certificate{m.pair.Leaf}
	for _, der := range m.pair.Certificate[1:] {
		between, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, between)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := m.verify(chain, usage, now); err != nil {
			return inWords(err, m.pair.Leaf)
		}
	}
	return nil
}

// verify builds the chains from a certificate, which comes first, up to a CA of
// the bundle.
func (m *material) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) ([][]*x509.Certificate, error) {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	return chain[0].Verify(x509.VerifyOptions{
		Roots: m.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
}

// inWords says what an operator can do about a certificate.
func inWords(err error, cert *x509.Certificate) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return errors.New("no CA in tls.ca has signed it")
	}
	if expired(err) {
		return fmt.Errorf("it, or its CA, is valid from %s until %s: issue another with `holdfast tls issue`",
			cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return err
}

// expired: the certificate is out of its time, or its CA is.
func expired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}
