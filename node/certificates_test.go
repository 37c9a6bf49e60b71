package node

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/pki"
)

// certified is a configuration with certificates for nodes and for SMTP, and
// what made them.
func certified(t *testing.T) (Config, *pki.CA) {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	pair, err := pki.NewCA("test CA", pki.From(time.Now(), 48*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.ParseCA(pair)
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.NodeID = "a"
	c.TLS = TLSConfig{CA: path("ca.pem"), Cert: path("node.pem"), Key: path("node-key.pem")}
	c.SMTP.TLSCert, c.SMTP.TLSKey = path("smtp.pem"), path("smtp-key.pem")
	if err := os.WriteFile(c.TLS.CA, pair.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	certify(t, ca, time.Hour, c.TLS.Cert, c.TLS.Key)
	certify(t, ca, 2*time.Hour, c.SMTP.TLSCert, c.SMTP.TLSKey)
	return c, ca
}

func certify(t *testing.T, ca *pki.CA, lasts time.Duration, cert, key string) {
	t.Helper()
	pair, err := ca.Issue(pki.Identity{Kind: pki.Node, Name: "a"}, []string{"localhost"}, pki.From(time.Now(), lasts))
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{cert: pair.Cert, key: pair.Key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Of several files a broken one keeps only its own old certificate in use.
func TestReloadOfCertificates(t *testing.T) {
	cfg, ca := certified(t)
	if err := cfg.CheckCertificates(); err != nil {
		t.Fatal(err)
	}
	c, err := openCertificates(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	c.register(registry)
	shown := func() *tls.Certificate {
		t.Helper()
		pair, err := c.forSMTP().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	first, nodeEnds := shown(), c.earliest("node")
	certify(t, ca, 3*time.Hour, cfg.TLS.Cert, cfg.TLS.Key)
	if err := os.WriteFile(cfg.SMTP.TLSKey, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.reload(); err == nil || !strings.Contains(err.Error(), "smtp.tls_cert and smtp.tls_key: "+cfg.SMTP.TLSCert) {
		t.Errorf("a broken key for SMTP: %v", err)
	}
	if shown() != first {
		t.Error("the old certificate for SMTP isn't in use any more")
	}
	if !c.earliest("node").After(nodeEnds) {
		t.Error("the good certificate for nodes was not taken")
	}
	if err := cfg.CheckCertificates(); err == nil {
		t.Error("--check finds nothing wrong")
	}
	certify(t, ca, 4*time.Hour, cfg.SMTP.TLSCert, cfg.SMTP.TLSKey)
	if err := c.reload(); err != nil {
		t.Error(err)
	}
	if shown() == first {
		t.Error("the new certificate for SMTP was not taken")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			values[m.Label[0].GetValue()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if values["done"] != 1 || values["failed"] != 1 {
		t.Errorf("reloads: %v", values)
	}
	for use, lasts := range map[string]time.Duration{"ca": 48 * time.Hour, "node": 3 * time.Hour, "smtp": 4 * time.Hour} {
		if left := time.Until(time.Unix(int64(values[use]), 0)); left > lasts || left < lasts-time.Minute {
			t.Errorf("%s ends in %v, want %v", use, left, lasts)
		}
	}
}
