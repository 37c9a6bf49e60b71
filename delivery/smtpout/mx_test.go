package smtpout_test

import (
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
		})
	}
}
