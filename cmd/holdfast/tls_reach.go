package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/pki"
)

// reachFlags are the flags that say how to reach nodes over TLS, each with the
// environment variable that it comes from else, named as Vault and Consul do.
var reachFlags = []struct{ flag, variable, help string }{
	{"tls-ca", "HOLDFAST_CACERT", "file of the cluster's CA; with it nodes are reached over TLS"},
	{"tls-cert", "HOLDFAST_CLIENT_CERT", "file of your certificate"},
	{"tls-key", "HOLDFAST_CLIENT_KEY", "file of its key"},
	{"tls-server-name", "HOLDFAST_TLS_SERVER_NAME", "host that the node's certificate must be for, if not that of --addr"},
}

func addTLSFlags(root *cobra.Command) {
	for _, f := range reachFlags {
		root.PersistentFlags().String(f.flag, "", f.help+" ("+f.variable+")")
	}
}

// reachTLS is how nodes are reached over TCP; nil is in plain text.
func (a *app) reachTLS(cmd *cobra.Command) (*tls.Config, error) {
	given := map[string]string{}
	for _, f := range reachFlags {
		value := a.env(f.variable)
		if flag := cmd.Flag(f.flag); flag != nil && flag.Changed {
			value = flag.Value.String()
		}
		given[f.flag] = value
	}
	ca, cert, key := given["tls-ca"], given["tls-cert"], given["tls-key"]
	if (cert == "") != (key == "") {
		return nil, usage("a certificate and its key go together: --tls-cert and --tls-key (HOLDFAST_CLIENT_CERT and HOLDFAST_CLIENT_KEY)")
	}
	if ca == "" {
		if cert != "" || given["tls-server-name"] != "" {
			return nil, usage("say with --tls-ca (HOLDFAST_CACERT) which CA the nodes' certificates are of")
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: given["tls-server-name"], RootCAs: x509.NewCertPool()}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	bundle, err := pki.ParseBundle(text)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %s: %w", ca, err)
	}
	for _, authority := range bundle {
		config.RootCAs.AddCert(authority)
	}
	if cert != "" {
		pair, err := pki.LoadPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		if a.now().After(pair.Leaf.NotAfter) {
			return nil, fmt.Errorf("--tls-cert: %s ended on %s: `holdfast tls issue` makes another", cert, day(pair.Leaf.NotAfter))
		}
		// Else none is shown where the server trusts another CA, and its answer
		// would be that there is none.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		id, err := pki.FromState(state)
		if err == nil && id.Kind != pki.Node {
			err = fmt.Errorf("here answers %s, which is no node", id)
		}
		return err
	}
	return config, nil
}

// transportTo secures a connection: a socket needs nothing, its file's mode
// says who may use it.
func transportTo(network string, secure *tls.Config, last *failure) credentials.TransportCredentials {
	if network == "unix" || secure == nil {
		return insecure.NewCredentials()
	}
	return noting{credentials.NewTLS(secure), last}
}

// noting keeps why a handshake fails. Of the server's verdict on the client's
// certificate TLS 1.3 tells only when the client reads.
type noting struct {
	credentials.TransportCredentials
	last *failure
}

func (n noting) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		n.last.set(tlsInWords(err))
		return nil, nil, err
	}
	return &notingConn{Conn: conn, last: n.last}, info, nil
}

func (n noting) Clone() credentials.TransportCredentials {
	return noting{n.TransportCredentials.Clone(), n.last}
}

type notingConn struct {
	net.Conn
	last  *failure
	heard atomic.Bool // something came
}

// Read notes the server's verdict.
func (c *notingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(err)
	return n, err
}

// Write is where an end shows first that comes while we write.
func (c *notingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.note(err)
	}
	return n, err
}

// note keeps the verdict, or that there was nothing but an end: a reset for what
// we sent meanwhile makes the kernel throw the verdict away.
func (c *notingConn) note(err error) {
	switch {
	case err == nil:
		c.heard.Store(true)
	case strings.HasPrefix(err.Error(), "remote error: tls:"):
		c.last.set(errors.New("it refuses your certificate: " + err.Error()))
	case !c.heard.Load() && !errors.Is(err, net.ErrClosed):
		c.last.set(errors.New("it ended the connection after the handshake, as it does with a certificate that it refuses: " + err.Error()))
	}
}

func tlsInWords(err error) error {
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		return errors.New("it doesn't speak TLS: its node file has no [tls], leave --tls-ca out")
	}
	if host, wrong := errors.AsType[x509.HostnameError](err); wrong {
		return fmt.Errorf("its certificate isn't for %s: %w; --tls-server-name says for which host it is", host.Host, err)
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return errors.New("its certificate isn't signed by the CA of --tls-ca")
	}
	return err
}
