package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// validHost: a name of letters, digits and "-", no wildcard: a node is reached
// under names that are known.
func validHost(host string) bool { return len(host) <= 253 && hostName.MatchString(host) }

// ParseBundle reads the certificates of one or several authorities, PEM. Two
// are trusted side by side while one takes the other's place. Anything else in
// the file is an error, above all a private key: a file of public certificates
// is copied around with less care.
func ParseBundle(text []byte) ([]*x509.Certificate, error) {
	var bundle []*x509.Certificate
	for rest := text; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			if len(bundle) == 0 || bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, errors.New("not a file of PEM certificates")
			}
			return bundle, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("has a %s among its certificates", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(bundle)+1, err)
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("certificate %d, of %q, is not an authority's", len(bundle)+1, cert.Subject.CommonName)
		}
		bundle, rest = append(bundle, cert), after
	}
}
