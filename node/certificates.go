package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/pki"
)

// certificates are what the node shows to others: its own to nodes and
// administrators, and one to SMTP clients.
type certificates struct {
	cfg   Config
	log   *slog.Logger
	nodes *pki.Credentials // nil without [tls]
	smtp  atomic.Pointer[tls.Certificate]

	reloads *prometheus.CounterVec
}

func openCertificates(cfg Config, log *slog.Logger) (_ *certificates, err error) {
	c := &certificates{cfg: cfg, log: log}
	if cfg.TLS.set() {
		files := pki.Files{CA: cfg.TLS.CA, Cert: cfg.TLS.Cert, Key: cfg.TLS.Key}
		if c.nodes, err = pki.Open(files, cfg.NodeID, time.Now); err != nil {
			return nil, err
		}
	}
	return c, c.reloadSMTP()
}

// CheckCertificates reads the certificates that the node file names and says
// what is wrong with them.
func (c Config) CheckCertificates() error {
	_, err := openCertificates(c, nil)
	return err
}

// reload reads all files again. Of what is broken the old stays in use.
func (c *certificates) reload() error {
	err := c.reloadAll()
	result := "done"
	if err != nil {
		result = "failed"
	}
	c.reloads.WithLabelValues(result).Inc()
	return err
}

func (c *certificates) reloadAll() error {
	var errs []error
	if c.nodes != nil {
		closed, err := c.nodes.Reload()
		errs = append(errs, err)
		c.tell(closed)
	}
	return errors.Join(append(errs, c.reloadSMTP())...)
}

func (c *certificates) reloadSMTP() error {
	if c.cfg.SMTP.TLSCert == "" {
		return nil
	}
	pair, err := pki.LoadPair(c.cfg.SMTP.TLSCert, c.cfg.SMTP.TLSKey)
	if err != nil {
		return fmt.Errorf("smtp.tls_cert and smtp.tls_key: %w", err)
	}
	c.smtp.Store(&pair)
	return nil
}

// forSMTP is the front door's, nil where it offers no STARTTLS.
func (c *certificates) forSMTP() *tls.Config {
	if c.smtp.Load() == nil {
		return nil
	}
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return c.smtp.Load(), nil
	}}
}

// recheckEvery is how long a connection may outlast its certificate's CA, or a
// client's certificate its end.
const recheckEvery = time.Minute

// watch ends the connections of certificates that are good no more.
func (c *certificates) watch(ctx context.Context) error {
	if c.nodes == nil {
		return nil
	}
	ticker := time.NewTicker(recheckEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.tell(c.nodes.Recheck())
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *certificates) tell(closed []pki.Closed) {
	for _, conn := range closed {
		c.log.Warn("closed a connection: its certificate isn't trusted any more",
			"peer", conn.Peer.String(), "remote", conn.Remote, "reason", conn.Reason.Error())
	}
}

// expiries are those of all certificates of the node.
func (c *certificates) expiries() []pki.Expiry {
	var all []pki.Expiry
	if c.nodes != nil {
		all = c.nodes.Expiries()
	}
	if pair := c.smtp.Load(); pair != nil {
		all = append(all, pki.ExpiryOf("smtp", pair.Leaf))
	}
	return all
}

// register shows the earliest end of each use, and counts the reloads.
func (c *certificates) register(registry prometheus.Registerer) {
	c.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_certificate_reloads_total", Help: "Reloads of the certificates, by SIGHUP: done, or failed, which leaves the old ones in use.",
	}, []string{"result"})
	registry.MustRegister(c.reloads)
	for _, result := range []string{"done", "failed"} {
		c.reloads.WithLabelValues(result)
	}
	uses := map[string]bool{}
	for _, expiry := range c.expiries() {
		uses[expiry.Use] = true
	}
	for use := range uses {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "holdfast_certificate_expiry_timestamp_seconds",
			Help:        "When the certificate ends: the node's own (node), the earliest of the CAs that it trusts (ca), that of its front door (smtp).",
			ConstLabels: prometheus.Labels{"certificate": use},
		}, func() float64 { return float64(c.earliest(use).Unix()) }))
	}
}

func (c *certificates) earliest(use string) time.Time {
	of := slices.DeleteFunc(c.expiries(), func(e pki.Expiry) bool { return e.Use != use })
	return slices.MinFunc(of, func(a, b pki.Expiry) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}
