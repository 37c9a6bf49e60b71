package smtpd

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

// certificate makes a self-signed one for a host.
func certificate(t *testing.T, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func startWithTLS(t *testing.T) (*harness, *tls.Config) {
	t.Helper()
	cert, pool := certificate(t, "mx.example.net")
	h := start(t, func(cfg *Config, _ *cluster) {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	})
	return h, &tls.Config{ServerName: "mx.example.net", RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// secure starts TLS on the client's side.
func (c *client) secure(config *tls.Config) {
	c.t.Helper()
	c.ask("STARTTLS", "220 ")
	secured := tls.Client(c.nc, config)
	if err := secured.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.nc, c.br = secured, bufio.NewReader(secured)
}

func TestStartTLS(t *testing.T) {
	h, config := startWithTLS(t)
	c := h.dial(t)
	c.want("220 ")
	if answer := c.ask("EHLO client.example", "250-"); !strings.Contains(answer, "STARTTLS") {
		t.Errorf("not offered: %s", answer)
	}
	c.secure(config)
	// RFC 3207 section 4.2: what was said before is forgotten.
	c.ask("MAIL FROM:<a@example.com>", "503 5.5.1 ")
	if answer := c.ask("EHLO client.example", "250-"); strings.Contains(answer, "STARTTLS") {
		t.Errorf("offered again: %s", answer)
	}
	c.ask("STARTTLS", "503 5.5.1 ")
	c.envelope()
	c.ask("DATA", "354 ")
	c.send("x\r\n.\r\n")
	c.want("250 ")
	c.ask("QUIT", "221 ")
	if m := h.accepted()[0]; m.Origin.Protocol != "ESMTPS" || !strings.Contains(string(m.body), " with ESMTPS id ") {
		t.Errorf("origin %v, body %s", m.Origin, m.body)
	}
}

// TestStartTLSInjection sends a command in the same packet as STARTTLS (a man
// in the middle could have): it is never carried out.
func TestStartTLSInjection(t *testing.T) {
	h, _ := startWithTLS(t)
	c := h.greeted(t)
	c.send("STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n")
	c.want("503 5.5.1 ")
	c.wantClosed()
}

// TestStartTLSFails: after a handshake that failed there is no plain text.
func TestStartTLSFails(t *testing.T) {
	h, _ := startWithTLS(t)
	c := h.greeted(t)
	c.ask("STARTTLS", "220 ")
	c.send("NOOP\r\nMAIL FROM:<a@example.com>\r\n")
	line, err := c.br.ReadString('\n')
	if err == nil || strings.HasPrefix(line, "250") || strings.HasPrefix(line, "5") {
		t.Errorf("got %q and %v after a failed handshake", line, err)
	}
	waitForMetric(t, h, "holdfast_smtpd_tls_failures_total", 1)
}

func TestStartTLSInTransaction(t *testing.T) {
	h, _ := startWithTLS(t)
	c := h.greeted(t)
	c.ask("STARTTLS now", "501 ")
	c.envelope()
	c.ask("STARTTLS", "503 5.5.1 ")
	c.ask("DATA", "354 ")
	c.send("x\r\n.\r\n")
	c.want("250 ")
}

// TestCutOffUnderTLS ends the connection properly, by TLS's own means, in the
// midst of a chunk: that isn't the end of the message.
func TestCutOffUnderTLS(t *testing.T) {
	h, config := startWithTLS(t)
	c := h.greeted(t)
	c.secure(config)
	c.ask("EHLO client.example", "250-")
	c.envelope()
	c.send("BDAT 100 LAST\r\nx\r\n")
	if err := c.nc.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.wantClosed()
	if len(h.accepted()) != 0 {
		t.Error("a cut-off chunk was accepted")
	}
}
