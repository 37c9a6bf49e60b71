package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A customer's own window, as its user sees it: the token comes from a file or
// the environment, its secret is shown once.
func TestTokenOfACustomer(t *testing.T) {
	w, ids := scene(t)
	root := shellFor(w)
	created := root.run(t, "token", "create", "--name", "customer", "--role", "viewer", "--domain", "one.test", "--ttl", "30d")
	secret := strings.TrimSpace(created.out)
	if created.status != exitDone || !strings.HasPrefix(secret, "hft_") || strings.Contains(created.err, secret) ||
		!strings.Contains(created.err, "role viewer, domains one.test, expires 2026-02-01T") {
		t.Fatalf("%+v", created)
	}
	list := root.run(t, "token", "list")
	if list.status != exitDone || strings.Contains(list.out, secret[20:]) || !strings.Contains(list.out, "customer") {
		t.Errorf("%+v", list)
	}
	wantJSONLines(t, root.run(t, "token", "list", "--json").out)

	customer := shell{env: map[string]string{"HOLDFAST_ADDR": w.Socket, "HOLDFAST_TOKEN": secret}}
	for _, line := range []string{"queue list", "queue list --json", "log search", "domain list", "destination list", "destination list --json", "status", "status --json", "queue count --by domain"} {
		r := customer.run(t, strings.Fields(line)...)
		if r.status != exitDone || strings.Contains(r.out, "two") || strings.Contains(r.out, ids["DOWN"]) {
			t.Errorf("%s: %+v", line, r)
		}
	}
	wantError(t, customer.run(t, "queue", "show", ids["DOWN"]), exitNotFound, "no message")
	wantError(t, customer.run(t, "queue", "hold", ids["DEFERRED"]), exitFailed, "needs the role operator; token customer has viewer")
	wantError(t, customer.run(t, "settings", "show"), exitFailed, "not for callers who are limited to domains")

	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := root.run(t, "queue", "list", "--token-file", file); r.status != exitDone || strings.Contains(r.out, "two.test") {
		t.Errorf("from a file: %+v", r)
	}
	if r := root.run(t, "token", "revoke", "customer"); r.status != exitDone {
		t.Errorf("%+v", r)
	}
	wantError(t, customer.run(t, "queue", "list"), exitFailed, "unknown, or was revoked")
}

func TestTokenStaysAtHome(t *testing.T) {
	sh := shell{env: map[string]string{"HOLDFAST_TOKEN": "hft_a b"}}
	wantError(t, sh.run(t, "status", "--addr", "127.0.0.1:1"), exitUsage, "a single word")
	if err := bearer("hft_x").mayCarry(farConn{}, false); !errors.Is(err, errPlainText) {
		t.Errorf("a token in plain text over the network: %v", err)
	}
	if err := bearer("hft_x").mayCarry(farConn{}, true); err != nil {
		t.Errorf("over TLS: %v", err)
	}
}

// farConn is a connection to another machine.
type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7500} }

// A host that swallows packets was said to speak another protocol.
func TestSilentHostIsNotSaidToConnect(t *testing.T) {
	var last failure
	if got := last.reason().Error(); !strings.HasPrefix(got, "no connection within ") {
		t.Errorf("before a connection: %s", got)
	}
	last.dialled(nil)
	if got := last.reason().Error(); !strings.HasPrefix(got, "it connects, but ") {
		t.Errorf("connected: %s", got)
	}
}
