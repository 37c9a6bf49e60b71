package smtpout

import (
	"encoding/base64"
	"errors"
	"net"

	"holdfast/relay"
)

// Login is what AUTH needs (RFC 4954). It is never traced.
type Login struct{ User, Password string }

// Why a password isn't sent.
var (
	errNoAuth = errors.New("the remote does not offer AUTH PLAIN or LOGIN")
	errClear  = errors.New("the password is not sent in the clear: the connection has no TLS")
)

// authenticate tells who we are. A password goes over TLS only, or to this
// machine itself (RFC 4954 section 4: PLAIN is not used without protection).
func (c *Conn) authenticate(login *Login) *relay.Failure {
	switch {
	case c.tlsVersion == "" && !isLoopback(c.tcp.RemoteAddr()):
		return c.authFailure(errClear)
	case c.ext.authPlain:
		// RFC 4616: authorization identity (none), user, password.
		return c.secret("AUTH PLAIN ", "\x00"+login.User+"\x00"+login.Password, 235)
	case c.ext.authLogin:
		for _, step := range []struct {
			command, secret string
			want            int
		}{{"AUTH LOGIN", "", 334}, {"", login.User, 334}, {"", login.Password, 235}} {
			if f := c.secret(step.command, step.secret, step.want); f != nil {
				return f
			}
		}
		return nil
	}
	return c.authFailure(errNoAuth)
}

// secret sends a command whose argument isn't shown.
func (c *Conn) secret(command, secret string, want int) *relay.Failure {
	c.out = append(c.out[:0], command...)
	if c.trace != nil {
		shown := command
		if secret != "" {
			shown += "(not shown)"
		}
		c.trace(true, shown)
	}
	c.out = base64.StdEncoding.AppendEncode(c.out, []byte(secret))
	c.out = append(c.out, "\r\n"...)
	// read returns write's error, or better, what the peer said about it.
	_ = c.write(c.timeouts.Hello)
	said, err := c.read(c.timeouts.Hello)
	switch {
	case err != nil:
		return c.failure(relay.PhaseAuth, err)
	case said.code == want:
		return nil
	case said.refused():
		f := c.refusal(relay.PhaseAuth, said)
		if said.code >= 500 {
			f.Cause = relay.CauseAuth
		}
		return f
	}
	return c.failure(relay.PhaseAuth, unexpected(said))
}

func (c *Conn) authFailure(err error) *relay.Failure {
	f := c.failure(relay.PhaseAuth, err)
	f.Cause = relay.CauseAuth
	return f
}

func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
