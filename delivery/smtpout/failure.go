package smtpout

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"holdfast/relay"
)

// ErrAborted is wrapped by the failure of a transaction whose connection was
// reset by Abort or AbortUnlessCommitted.
var ErrAborted = errors.New("connection reset by this node")

// ErrBody is wrapped by the failure of a transaction whose body could not be
// read in full and as declared: the fault is here, not with the next hop.
var ErrBody = errors.New("stored content unreadable")

// ErrUnfit is wrapped by the failure of what this host lacks the means for, an extension
// or the size: another host of the destination may have them.
var ErrUnfit = errors.New("the next hop lacks what it needs")

// causeOf names an error of the network in one word of the contract.
func causeOf(err error) relay.Cause {
	var dns *net.DNSError
	var alert tls.AlertError
	var netErr net.Error
	switch {
	case errors.As(err, &dns):
		return relay.CauseDNS
	case errors.As(err, &alert):
		return relay.CauseTLS
	case errors.Is(err, context.Canceled), errors.Is(err, ErrAborted):
		return relay.CauseClosed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return relay.CauseTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return relay.CauseRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, syscall.EHOSTDOWN), errors.Is(err, syscall.ENETDOWN):
		return relay.CauseUnreachable
	case errors.As(err, &netErr) && netErr.Timeout():
		return relay.CauseTimeout
	}
	return relay.CauseClosed
}

// textOf is the error in words, for operators and for senders, who may be anybody.
func textOf(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return printable(strings.Replace(err.Error(), dns.Error(), withoutServer(dns).Error(), 1))
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed by the remote"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	}
	// What net puts around the system's error says again what failed and where.
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return printable(err.Error())
}

// withoutServer leaves out which server was asked: that is this side's own affair, and
// where dns.servers are configured the error names another one, of /etc/resolv.conf.
// What the network said comes in net's words, with the addresses of both ends.
func withoutServer(err *net.DNSError) *net.DNSError {
	plain := *err
	plain.Server = ""
	switch operation, _, _ := strings.Cut(plain.Err, " "); operation {
	case "dial", "read", "write":
		plain.Err = strings.TrimSpace(plain.Err[strings.LastIndex(plain.Err, ": ")+1:])
	}
	return &plain
}

// failure is an error of the network or of the protocol as a relay.Failure.
func (c *Conn) failure(phase relay.Phase, err error) *relay.Failure {
	return &relay.Failure{
		Cause: causeOf(err), Phase: phase, Host: c.host, Address: c.address,
		Text: textOf(err), At: c.now(), Err: err,
	}
}

// refusal is a 4xx or 5xx reply as a relay.Failure.
func (c *Conn) refusal(phase relay.Phase, r reply) *relay.Failure {
	return c.refused(phase, r.relay())
}

// ownFailure is a refusal that this side pronounces, with the codes of the reply
// that the peer would give.
func (c *Conn) ownFailure(phase relay.Phase, code int, enhanced, text string) *relay.Failure {
	f := c.refused(phase, relay.Reply{Code: code, Enhanced: enhanced, Text: text})
	f.Own = true
	return f
}

func (c *Conn) refused(phase relay.Phase, said relay.Reply) *relay.Failure {
	cause := relay.CauseDeferred
	if said.Code >= 500 {
		cause = relay.CauseRejected
	}
	return &relay.Failure{
		Cause: cause, Phase: phase, Host: c.host, Address: c.address,
		Code: said.Code, Enhanced: said.Enhanced, Text: said.Text, At: c.now(),
	}
}
