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

// tlsPath is a file of the node's [tls]: ca.pem, node.pem or node-key.pem.
func (n *Node) tlsPath(name string) string { return filepath.Join(n.Dir, "tls", name) }

// Trust makes authorities the ones that the node trusts, from its next start or
// Reload on.
func (n *Node) Trust(authorities ...*Authority) error {
	var bundle []byte
	for _, a := range authorities {
		bundle = append(bundle, a.cert...)
	}
	return replace(n.tlsPath("ca.pem"), bundle)
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
	return errors.Join(replace(n.tlsPath("node.pem"), pair.Cert), replace(n.tlsPath("node-key.pem"), pair.Key))
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
	if !c.config.TLS {
		return nil
	}
	if c.Authority, err = NewAuthority("harness CA"); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := errors.Join(n.Trust(c.Authority), n.Certify(c.Authority)); err != nil {
			return err
		}
	}
	return nil
}
