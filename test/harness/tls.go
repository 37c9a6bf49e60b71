package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/pki"
)

// Authority is a CA for a test's cluster.
type Authority struct {
	*pki.CA
	cert []byte
}

// NewAuthority makes a CA that lasts for a day.
func NewAuthority(name string) (*Authority, error) {
	pair, err := pki.NewCA(name, pki.From(time.Now(), 24*time.Hour))
	if err != nil {
		return nil, err
	}
	ca, err := pki.ParseCA(pair)
	return &Authority{ca, pair.Cert}, err
}

// TLSFiles are those of the node's [tls].
func (n *Node) TLSFiles() pki.Files {
	dir := filepath.Join(n.Dir, "tls")
	return pki.Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "node.pem"), Key: filepath.Join(dir, "node-key.pem")}
}

// Trust makes authorities the ones that the node trusts, from its next start or
// Reload on.
func (n *Node) Trust(authorities ...*Authority) error {
	var bundle []byte
	for _, a := range authorities {
		bundle = append(bundle, a.cert...)
	}
	return replace(n.TLSFiles().CA, bundle)
}

// Certify gives the node a certificate, from its next start or Reload on.
func (n *Node) Certify(by *Authority) error {
	host, _, err := net.SplitHostPort(n.Admin)
	if err != nil {
		return err
	}
	pair, err := by.Issue(pki.Identity{Kind: pki.Node, Name: n.Name}, []string{host}, pki.From(time.Now(), time.Hour))
	if err != nil {
		return err
	}
	files := n.TLSFiles()
	return errors.Join(replace(files.Cert, pair.Cert), replace(files.Key, pair.Key))
}

func replace(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

// Reload has the running node read its certificates again, and waits until it
// has; an error says that it didn't take them.
func (n *Node) Reload(ctx context.Context) error {
	const done, failed = `holdfast_certificate_reloads_total{result="done"}`, `holdfast_certificate_reloads_total{result="failed"}`
	counts := func(ctx context.Context) (d, f float64, err error) {
		if d, err = n.Metric(ctx, done); err == nil {
			f, err = n.Metric(ctx, failed)
		}
		return d, f, err
	}
	before, failures, err := counts(ctx)
	if err != nil {
		return err
	}
	if err := n.signal(syscall.SIGHUP); err != nil {
		return err
	}
	return Eventually(ctx, "node "+n.Name+" reloads", func(ctx context.Context) error {
		now, failing, err := counts(ctx)
		switch {
		case err != nil:
			return err
		case failing > failures:
			return Final(fmt.Errorf("node %s didn't take its certificates: %s", n.Name, n.logPath()))
		case now == before:
			return errors.New("nothing yet")
		}
		return nil
	})
}

// secure gives every node a certificate of one authority.
func (c *Cluster) secure() (err error) {
	if c.config.TLS {
		if c.Authority, err = NewAuthority("harness CA"); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes {
		if err := c.certify(n); err != nil {
			return err
		}
	}
	return nil
}

// certify gives a node its first certificate.
func (c *Cluster) certify(n *Node) error {
	switch {
	case c.config.Issue != nil:
		return c.config.Issue(n)
	case c.config.TLS:
		return errors.Join(n.Trust(c.Authority), n.Certify(c.Authority))
	}
	return nil
}

// secured reports whether nodes have a [tls].
func (c *Cluster) secured() bool { return c.config.TLS || c.config.Issue != nil }
