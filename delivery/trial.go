package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/delivery/smtpout"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Trial is a delivery of no message of the queue, made for somebody who looks at
// it: as an attempt would be, host by host, each step told. It takes no slot
// and says nothing of the destination's health.
type Trial struct {
	Dialer     *smtpout.Dialer
	Config     *pb.DestinationConfig
	From       string
	Recipients []string // none: it ends before MAIL
	Send       bool     // a short message, at the first host that takes it
	Now        func() time.Time
	// Tell is called for each step, from one goroutine; its error ends the trial.
	Tell func(*pb.TestDestinationResponse) error

	began  time.Time // of the present host
	broken error     // of Tell
	cancel context.CancelFunc
}

// Run tries all hosts in the order of their priorities.
func (t *Trial) Run(ctx context.Context) error {
	ctx, t.cancel = context.WithCancel(ctx)
	defer t.cancel()
	t.began = t.Now()
	hosts, failure := t.hosts(ctx)
	if failure != nil {
		t.verdict(t.Config.Mx, "", failure)
	}
	for _, host := range hosts {
		t.began = t.Now()
		security, failure := t.host(ctx, host)
		t.verdict(host, security, failure)
		if t.broken != nil || t.Send && failure == nil {
			break
		}
	}
	return t.broken
}

func (t *Trial) hosts(ctx context.Context) ([]string, *relay.Failure) {
	hosts := t.Config.Hosts
	if t.Config.Mx != "" {
		t.step("looks up the MX records of %s", t.Config.Mx)
		found, err := t.Dialer.LookupMX(ctx, t.Config.Mx)
		if err != nil {
			return nil, asFailure(err)
		}
		for _, h := range found {
			t.step("host %s, preference %d", h.Address, h.Priority)
			hosts = append(hosts, &pb.DestinationConfig_Host{Address: h.Address, Priority: h.Priority, Weight: h.Weight})
		}
	}
	// The same lot for all: hosts of one priority stay in their order.
	return make(hostTrouble).order(hosts, t.began, func() float64 { return 1 }), nil
}

// host goes as far with one host as the trial is to go.
func (t *Trial) host(ctx context.Context, host string) (security string, f *relay.Failure) {
	conn, f := connect(ctx, t.dialer(host), host, t.Config)
	if f != nil {
		return "", f
	}
	defer conn.Close()
	var result smtpout.Result
	switch {
	case len(t.Recipients) == 0:
		return conn.TLS(), nil
	case t.Send:
		result = conn.Send(ctx, t.message())
	default:
		result = conn.Verify(ctx, t.From, t.Recipients)
	}
	for i, outcome := range result.Outcomes {
		if outcome.Failure != nil && f == nil {
			f = outcome.Failure
		}
		if outcome.Failure != nil && (outcome.Failure.Code == 0 || outcome.Failure.Own) {
			t.step("%s: %s", t.Recipients[i], outcome.Failure.Text)
		}
	}
	return conn.TLS(), f
}

// dialer is the node's own, with ears.
func (t *Trial) dialer(host string) *smtpout.Dialer {
	d := *t.Dialer
	d.Trace = func(sent bool, line string) {
		kind := pb.TestDestinationResponse_Line_KIND_RECEIVED
		if sent {
			kind = pb.TestDestinationResponse_Line_KIND_SENT
		}
		t.line(kind, line)
	}
	resolver, dial := d.Resolver, d.Dial
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	d.Resolver = toldResolver{resolver, t}
	d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		t.step("connects to %s", address)
		conn, err := dial(ctx, network, address)
		if err != nil {
			t.step("%s: %v", address, err)
		} else {
			t.step("connected from %s", conn.LocalAddr())
		}
		return conn, err
	}
	config := &tls.Config{}
	if d.TLSConfig != nil {
		config = d.TLSConfig.Clone()
	}
	name, _, _ := net.SplitHostPort(host) // connect says what is wrong with it
	config.VerifyConnection = func(state tls.ConnectionState) error {
		t.security(state, config.RootCAs, name)
		return nil
	}
	d.TLSConfig = config
	return &d
}

// security tells what a handshake came to, and what `--tls verify` would say.
func (t *Trial) security(state tls.ConnectionState, roots *x509.CertPool, name string) {
	t.step("encrypted with %s, %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	if len(state.PeerCertificates) == 0 {
		return
	}
	leaf, intermediates := state.PeerCertificates[0], x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	t.step("certificate for %s, of %s, valid until %s", strings.Join(names, ", "), leaf.Issuer, leaf.NotAfter.UTC().Format(time.RFC3339))
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: intermediates, CurrentTime: t.Now()})
	if err != nil {
		t.step("the certificate would not do for --tls verify: %v", err)
	} else {
		t.step("the certificate is valid for %s", name)
	}
}

// toldResolver tells what names come to.
type toldResolver struct {
	smtpout.Resolver
	t *Trial
}

func (r toldResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	r.t.step("looks up the addresses of %s", host)
	found, err := r.Resolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, err
	}
	words := make([]string, len(found))
	for i, address := range found {
		words[i] = address.Unmap().String()
	}
	r.t.step("%s is %s", host, strings.Join(words, ", "))
	return found, nil
}

// message is what is sent. RFC 3834: nobody's robot is to answer it.
func (t *Trial) message() smtpout.Transaction {
	now := t.Now()
	author := t.From
	if author == "" {
		author = "postmaster@" + t.Dialer.LocalName
	}
	text := strings.Join([]string{
		"Date: " + now.UTC().Format(time.RFC1123Z),
		"From: <" + author + ">",
		"To: <" + strings.Join(t.Recipients, ">, <") + ">",
		"Subject: Test of the way to " + t.Config.Name,
		fmt.Sprintf("Message-ID: <test.%d@%s>", now.UnixNano(), t.Dialer.LocalName),
		"Auto-Submitted: auto-generated",
		"",
		"This message was sent by hand to test the way to this mail server.",
		"It came through no queue.",
		"",
	}, "\r\n")
	out := smtpout.Transaction{
		From: t.From, Size: int64(len(text)),
		Body: func() (io.ReadCloser, error) {
			t.step("sends %d bytes of message", len(text))
			return io.NopCloser(strings.NewReader(text)), nil
		},
	}
	for _, address := range t.Recipients {
		out.Recipients = append(out.Recipients, smtpout.Recipient{Address: address})
	}
	return out
}

func (t *Trial) step(format string, args ...any) {
	t.line(pb.TestDestinationResponse_Line_KIND_STEP, fmt.Sprintf(format, args...))
}

func (t *Trial) line(kind pb.TestDestinationResponse_Line_Kind, text string) {
	t.tell(&pb.TestDestinationResponse{What: &pb.TestDestinationResponse_Line_{Line: &pb.TestDestinationResponse_Line{
		Kind: kind, Text: printable(text), At: durationpb.New(t.Now().Sub(t.began)),
	}}})
}

func (t *Trial) verdict(host, security string, f *relay.Failure) {
	v := &pb.TestDestinationResponse_Verdict{Host: host, Tls: security, Took: durationpb.New(t.Now().Sub(t.began))}
	if f != nil {
		v.Error = &pb.DeliveryError{Cause: string(f.Cause), Phase: string(f.Phase), Host: f.Host, Text: printable(f.Text)}
		if !f.Own {
			v.Error.Code, v.Error.Enhanced = uint32(f.Code), printable(f.Enhanced)
		}
	}
	t.tell(&pb.TestDestinationResponse{What: &pb.TestDestinationResponse_Verdict_{Verdict: v}})
}

// tell hands a step on. One who doesn't listen any more ends the trial.
func (t *Trial) tell(r *pb.TestDestinationResponse) {
	if t.broken != nil {
		return
	}
	if err := t.Tell(r); err != nil {
		t.broken = errors.Join(errors.New("nobody listens to the test any more"), err)
		t.cancel()
	}
}
