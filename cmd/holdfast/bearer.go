package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

// readToken is the token to show, "" for none. It comes from a file or the
// environment: on the command line everybody on the machine would see it.
func (a *app) readToken(cmd *cobra.Command) (string, error) {
	token, where := a.env("HOLDFAST_TOKEN"), "HOLDFAST_TOKEN"
	if flag := cmd.Flags().Lookup("token-file"); flag != nil && flag.Changed {
		content, err := os.ReadFile(flag.Value.String())
		if err != nil {
			return "", usage("--token-file: %v", err)
		}
		token, where = strings.TrimSpace(string(content)), "--token-file "+flag.Value.String()
		if token == "" {
			return "", usage("%s is empty", where)
		}
	}
	token = strings.TrimSpace(token)
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usage("%s has no token in it: one is a single word that begins with hft_", where)
	}
	return token, nil
}

// bearer shows a token with every call (RFC 6750 section 2.1).
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity would refuse sockets and loopback: mayCarry decides.
func (b bearer) RequireTransportSecurity() bool { return false }

func (b bearer) options() []grpc.DialOption {
	if b == "" {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(b)}
}

// errPlainText: whoever is on the way could read the token and use it.
var errPlainText = errors.New("a token isn't sent there in plain text: use TLS (--tls-ca), a node's socket, or loopback")

// mayCarry refuses a connection over which a token would go in plain text.
func (b bearer) mayCarry(conn net.Conn, encrypted bool) error {
	if b == "" || encrypted || conn.RemoteAddr().Network() == "unix" {
		return nil
	}
	address, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err == nil && address.Addr().Unmap().IsLoopback() {
		return nil
	}
	return errPlainText
}
