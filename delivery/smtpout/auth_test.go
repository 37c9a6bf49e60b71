package smtpout_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
	"holdfast/test/sink"
)

// authServer takes user "relay" with password "secret", by the mechanisms that
// it offers.
func authServer(t *testing.T, mechanisms string, secure bool) *sink.Server {
	t.Helper()
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	config := sink.Config{STARTTLS: secure, Offer: sink.DefaultOffer()}
	if mechanisms != "" {
		config.Offer = append(config.Offer, "AUTH "+mechanisms)
	}
	config.Answer = func(s sink.Step) sink.Reply {
		switch {
		case s.Verb == "AUTH" && s.Args == "PLAIN "+encoded("\x00relay\x00secret"):
			return sink.Reply{Code: 235, Text: "welcome"}
		case s.Verb == "AUTH" && s.Args == "LOGIN":
			return sink.Reply{Code: 334, Text: encoded("Username:")}
		case s.Verb == strings.ToUpper(encoded("relay")):
			return sink.Reply{Code: 334, Text: encoded("Password:")}
		case s.Verb == strings.ToUpper(encoded("secret")):
			return sink.Reply{Code: 235, Text: "welcome"}
		case s.Verb == "AUTH" && strings.HasPrefix(s.Args, "PLAIN") && strings.Contains(mechanisms, "BUSY"):
			return sink.Reply{Code: 454, Enhanced: "4.7.0", Text: "later"}
		case s.Verb == "AUTH" && strings.HasPrefix(s.Args, "PLAIN"):
			return sink.Reply{Code: 535, Enhanced: "5.7.8", Text: "who are you"}
		}
		return sink.Reply{}
	}
	server, err := sink.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func TestAuth(t *testing.T) {
	good, bad := &smtpout.Login{User: "relay", Password: "secret"}, &smtpout.Login{User: "relay", Password: "guess"}
	for _, tt := range []struct {
		name       string
		mechanisms string
		level      relay.TLS
		login      *smtpout.Login
		far        bool // the server isn't on this machine
		cause      relay.Cause
		code       int
	}{
		{name: "PLAIN", mechanisms: "PLAIN LOGIN", level: relay.TLSNone, login: good},
		{name: "PLAIN over TLS", mechanisms: "PLAIN", level: relay.TLSRequire, login: good, far: true},
		{name: "LOGIN", mechanisms: "LOGIN CRAM-MD5", level: relay.TLSRequire, login: good},
		{name: "wrong password", mechanisms: "PLAIN", level: relay.TLSNone, login: bad, cause: relay.CauseAuth, code: 535},
		{name: "not now", mechanisms: "PLAIN BUSY", level: relay.TLSNone, login: bad, cause: relay.CauseDeferred, code: 454},
		{name: "not offered", level: relay.TLSNone, login: good, cause: relay.CauseAuth},
		{name: "unknown mechanisms", mechanisms: "GSSAPI", level: relay.TLSNone, login: good, cause: relay.CauseAuth},
		{name: "in the clear to another machine", mechanisms: "PLAIN", level: relay.TLSNone, login: good, far: true, cause: relay.CauseAuth},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := authServer(t, tt.mechanisms, tt.level == relay.TLSRequire)
			d := newDialer()
			var mu sync.Mutex
			var said []string
			d.Trace = func(_ bool, line string) {
				mu.Lock()
				defer mu.Unlock()
				said = append(said, line)
			}
			if tt.far {
				d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
					return farConn{conn}, err
				}
			}
			conn, err := d.Connect(testContext(t), server.Addr(), tt.level, tt.login)
			for _, secret := range []string{"secret", "guess"} {
				if slices.ContainsFunc(said, func(line string) bool {
					return strings.Contains(line, secret) || strings.Contains(line, base64.StdEncoding.EncodeToString([]byte(secret)))
				}) {
					t.Errorf("the trace shows the password: %q", said)
				}
			}
			if tt.cause == "" {
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				return
			}
			if err == nil {
				conn.Close()
				t.Fatal("connected")
			}
			f, ok := errors.AsType[*relay.Failure](err)
			if !ok {
				t.Fatal(err)
			}
			if f.Cause != tt.cause || f.Phase != relay.PhaseAuth || f.Code != tt.code || f.Class() != relay.HostFailure {
				t.Errorf("%v (class %d), want %s at auth with %d", f, f.Class(), tt.cause, tt.code)
			}
			if tt.far && slices.ContainsFunc(said, func(line string) bool { return strings.HasPrefix(line, "AUTH") }) {
				t.Errorf("it was sent in the clear: %q", said)
			}
		})
	}
}

// farConn looks like a connection to another machine.
type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25} }
