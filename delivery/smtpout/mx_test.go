package smtpout_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
)

func TestLookupMX(t *testing.T) {
	mx := func(pref uint16, host string) *net.MX { return &net.MX{Host: host, Pref: pref} }
	notFound := &net.DNSError{Err: "no such host", Name: "example.test", IsNotFound: true}
	for _, tt := range []struct {
		name     string
		resolver fakeResolver
		want     []string // address and priority
		class    relay.Class
		code     int
	}{
		{name: "records", resolver: fakeResolver{mx: []*net.MX{mx(10, "one.test."), mx(20, "two.test.")}},
			want: []string{"one.test:25 10", "two.test:25 20"}},
		{name: "none", resolver: fakeResolver{err: notFound}, want: []string{"example.test:25 0"}},
		{name: "ourselves and better ones", resolver: fakeResolver{mx: []*net.MX{mx(5, "one.test."), mx(10, "RELAY.test."), mx(10, "two.test."), mx(20, "three.test.")}},
			want: []string{"one.test:25 5"}},
		{name: "some records make no sense", resolver: fakeResolver{mx: []*net.MX{mx(5, "one.test.")}, err: errors.New("bad record")},
			want: []string{"one.test:25 5"}},
		{name: "ourselves first", resolver: fakeResolver{mx: []*net.MX{mx(10, "relay.test."), mx(20, "two.test.")}}, class: relay.HostFailure},
		{name: "no answer", resolver: fakeResolver{err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}, class: relay.HostFailure},
		{name: "slow", resolver: fakeResolver{wait: true}, class: relay.HostFailure},
		{name: "null", resolver: fakeResolver{mx: []*net.MX{mx(0, ".")}}, class: relay.PermanentFailure, code: 556},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &smtpout.Dialer{LocalName: "relay.test", Resolver: tt.resolver, Timeouts: smtpout.Timeouts{Lookup: 50 * time.Millisecond}}
			hosts, err := d.LookupMX(t.Context(), "example.test")
			var got []string
			for _, h := range hosts {
				got = append(got, fmt.Sprint(h.Address, " ", h.Priority))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("hosts %v, want %v", got, tt.want)
			}
			if len(tt.want) > 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f, ok := errors.AsType[*relay.Failure](err)
			if !ok || f.Class() != tt.class || f.Code != tt.code || f.Phase != relay.PhaseDNS || f.Cause != relay.CauseDNS {
				t.Errorf("failure %v, want class %d with code %d", err, tt.class, tt.code)
			}
			if f != nil && f.Own != (tt.code != 0) {
				t.Errorf("%+v: no server has said that", f)
			}
		})
	}
}

// Which server was asked for a name is nobody's affair: the text goes to senders.
func TestResolverIsNotNamed(t *testing.T) {
	for _, tt := range []struct{ err, want string }{
		{"no such host", "lookup mail.test: no such host"},
		{"server misbehaving", "lookup mail.test: server misbehaving"},
		{"read udp 10.1.2.3:40000->10.0.0.2:53: i/o timeout", "lookup mail.test: i/o timeout"},
		{"dial udp [fd00::2]:53: connect: network is unreachable", "lookup mail.test: network is unreachable"},
	} {
		err := &net.DNSError{Err: tt.err, Name: "mail.test", Server: "10.0.0.1:53", IsTemporary: true}
		d := newDialer()
		d.Resolver = fakeResolver{err: err}
		_, failed := d.Connect(t.Context(), "mail.test:25", relay.TLSNone, nil)
		f, _ := errors.AsType[*relay.Failure](failed)
		if f == nil || f.Text != tt.want || f.Cause != relay.CauseDNS {
			t.Errorf("%q: failure %v, want %q", tt.err, failed, tt.want)
		}
		_, failed = d.LookupMX(t.Context(), "mail.test")
		f, _ = errors.AsType[*relay.Failure](failed)
		if f == nil || f.Text != "MX records of mail.test: "+tt.want {
			t.Errorf("%q: failure %v of the MX records", tt.err, failed)
		}
		if err.Server == "" {
			t.Error("the resolver's own error is changed")
		}
	}
}

// The same with Go's resolver, asked as node.DNSConfig has it asked: at another server
// than the system's.
func TestDeafResolverIsNotNamed(t *testing.T) {
	d := newDialer()
	d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:1")
	}}
	_, err := d.Connect(testContext(t), "mail.example.test:25", relay.TLSNone, nil)
	f, _ := errors.AsType[*relay.Failure](err)
	if f == nil || f.Text != "lookup mail.example.test: connection refused" {
		t.Errorf("failure %v, want the name and the cause alone", err)
	}
}
