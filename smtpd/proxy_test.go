package smtpd

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// behindProxy is a server for which loopback is a proxy.
func behindProxy(t *testing.T, change func(*Config)) *harness {
	return start(t, func(cfg *Config, _ *cluster) {
		cfg.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		if change != nil {
			change(cfg)
		}
	})
}

// header is what HAProxy sends with send-proxy and send-proxy-v2.
func header(t *testing.T, version byte, client string) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, tcpAddr(t, client), tcpAddr(t, "192.0.2.1:25"))
	if strings.HasPrefix(client, "[") {
		h = proxyproto.HeaderProxyFromAddrs(version, tcpAddr(t, client), tcpAddr(t, "[2001:db8::25]:25"))
	}
	text, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func tcpAddr(t *testing.T, text string) *net.TCPAddr {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestProxyNamesTheClient(t *testing.T) {
	h := behindProxy(t, nil)
	for _, c := range []struct {
		name, header, want string
	}{
		{"version 1", header(t, 1, "203.0.113.9:4711"), "203.0.113.9"},
		{"version 2", header(t, 2, "203.0.113.9:4711"), "203.0.113.9"},
		{"IPv6, version 1", header(t, 1, "[2001:db8::7]:4711"), "2001:db8::7"},
		{"IPv6, version 2", header(t, 2, "[2001:db8::7]:4711"), "2001:db8::7"},
		{"unknown", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"itself", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(h.accepted())
			client := h.dial(t)
			// The header and the client's first words may come in one packet.
			client.send(c.header + "EHLO client.example\r\n")
			client.want("220 ")
			client.want("250-")
			client.envelope()
			client.ask("DATA", "354 ")
			client.send("Subject: x\r\n\r\nx\r\n.\r\n")
			client.want("250 ")
			accepted := h.accepted()[before]
			if got := accepted.Origin.ClientAddress; got != c.want {
				t.Errorf("the client is %s, want %s", got, c.want)
			}
			literal := "[" + c.want + "]"
			if strings.Contains(c.want, ":") {
				literal = "[IPv6:" + c.want + "]"
			}
			if !strings.Contains(string(accepted.body), literal) {
				t.Errorf("no %s in %q", literal, accepted.body)
			}
		})
	}
}

// Without a header nobody knows who the client is, and a client that isn't a
// proxy may not say who it is.
func TestProxyHeaderIsWanted(t *testing.T) {
	h := behindProxy(t, func(cfg *Config) { cfg.CommandTimeout = time.Second })
	for name, text := range map[string]string{
		"silence":      "",
		"a client":     "EHLO client.example\r\n",
		"half of one":  "PROXY TCP4 203.0.113.9",
		"no address":   "PROXY TCP4 a b 1 2\r\n",
		"no end to it": "PROXY " + strings.Repeat("x", 200) + "\r\n",
		"half binary":  "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01",
	} {
		t.Run(name, func(t *testing.T) {
			c := h.dial(t)
			c.send(text)
			c.want("421 4.3.5 no PROXY header from an address in smtp.proxy_protocol_from")
			c.wantClosed()
		})
	}
	c := h.dial(t) // a health check that only connects
	if err := c.nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.wantClosed()
	direct := start(t, nil)
	c = direct.dial(t)
	c.want("220 ")
	c.ask(strings.TrimSuffix(header(t, 1, "203.0.113.9:4711"), "\r\n"), "500 5.5.1 ")
}

// A client's limit holds behind a proxy, and the proxy has none of its own.
func TestLimitsBehindAProxy(t *testing.T) {
	h := behindProxy(t, func(cfg *Config) { cfg.MaxConnectionsPerClient = 2 })
	from := func(client string) *client {
		c := h.dial(t)
		c.send(header(t, 2, client))
		return c
	}
	var one []*client
	for range 2 {
		c := from("203.0.113.9:1")
		c.want("220 ")
		one = append(one, c)
	}
	for range 2 {
		from("203.0.113.10:1").want("220 ")
	}
	refused := from("203.0.113.9:1")
	refused.want("421 4.7.0 too many connections from your address")
	refused.wantClosed()
	one[0].ask("QUIT", "221 ")
	one[0].wantClosed()
	waitForMetric(t, h, "holdfast_smtpd_connections", 3)
	from("203.0.113.9:1").want("220 ")
}

// A shutdown doesn't wait for a header.
func TestShutdownBeforeTheProxyHeader(t *testing.T) {
	h := behindProxy(t, nil)
	c := h.dial(t)
	waitForMetric(t, h, "holdfast_smtpd_connections", 1)
	h.server.Drain(true)
	c.want("421 4.3.2 ")
	c.wantClosed()
}

// Who is turned away behind a proxy is told so, and the log names who it is.
func TestTurnedAwayBehindAProxy(t *testing.T) {
	h := behindProxy(t, func(cfg *Config) { cfg.MaxConnectionsPerClient = 1 })
	one := h.dial(t)
	one.send(header(t, 1, "203.0.113.9:1"))
	one.want("220 ")
	another := h.dial(t)
	another.send(header(t, 1, "203.0.113.9:2"))
	another.want("421 4.7.0 ")
	if !strings.Contains(h.logs.String(), "client=203.0.113.9 proxy=127.0.0.1") {
		t.Errorf("the log doesn't name the client: %s", h.logs)
	}
	h.server.Drain(true)
	for range 20 {
		c := h.dial(t)
		c.send(header(t, 2, "203.0.113.10:1"))
		c.want("421 4.3.2 ")
		c.wantClosed()
	}
}

func TestSwaksByProxy(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks isn't installed")
	}
	h := behindProxy(t, nil)
	host, port, _ := strings.Cut(h.address, ":")
	for version, family := range map[string]string{"1": "TCP4", "2": "AF_INET"} {
		out, err := exec.CommandContext(t.Context(), swaks, "--server", host, "--port", port,
			"--from", "a@example.com", "--to", "b@example.org", "--proxy-version", version, "--proxy-family", family,
			"--proxy-command", "PROXY", "--proxy-protocol", "STREAM",
			"--proxy-source", "203.0.113.77", "--proxy-source-port", "4711", "--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25").CombinedOutput()
		if err != nil {
			t.Errorf("swaks by proxy protocol version %s: %v\n%s", version, err, out)
			continue
		}
		accepted := h.accepted()
		if got := accepted[len(accepted)-1].Origin.ClientAddress; got != "203.0.113.77" {
			t.Errorf("version %s: the client is %s", version, got)
		}
	}
}
