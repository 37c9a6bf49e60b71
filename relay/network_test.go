package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRelayNetworkTexts(t *testing.T) {
	many := make([]string, MaxRelayNetworks+1)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.%d.%d", i/256, i%256)
	}
	for _, c := range []struct {
		given, kept []string
		refusal     string
	}{
		{given: nil, kept: []string{}},
		{given: []string{"10.0.0.0/8", "2001:DB8:0::/32", "192.0.2.1/32", "fd00::1"}, kept: []string{"10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "fd00::1"}},
		{given: []string{"127.0.0.0/8", "fc00::/7"}, kept: []string{"127.0.0.0/8", "fc00::/7"}},
		{given: many[1:], kept: many[1:]},
		{given: many, refusal: "1001 addresses and networks: want 1000 at most"},
		{given: []string{"0.0.0.0/0"}, refusal: "open relay"},
		{given: []string{"192.0.2.1", "::/0"}, refusal: "open relay"},
		{given: []string{"0.0.0.0/1", "128.0.0.0/1"}, refusal: "want /8 or longer"},
		{given: []string{"2000::/3"}, refusal: "want /7 or longer"},
		{given: []string{"10.1.2.3/24"}, refusal: "an address within the network 10.1.2.0/24: which of the two?"},
		{given: []string{"fe80::1%eth0"}, refusal: "neither an IP address nor a network"},
		{given: []string{"::ffff:192.0.2.1"}, refusal: "neither an IP address nor a network"},
		{given: []string{"::ffff:0:0/96"}, refusal: "neither an IP address nor a network"},
		{given: []string{"mail.example.com"}, refusal: "neither an IP address nor a network"},
		{given: []string{""}, refusal: "neither an IP address nor a network"},
		{given: []string{"192.0.2.1", "192.0.2.1/32"}, refusal: "192.0.2.1 is there twice"},
	} {
		kept, err := RelayNetworkTexts(c.given)
		switch {
		case c.refusal == "" && (err != nil || !slices.Equal(kept, c.kept)):
			t.Errorf("%.3q: %q %v", c.given, kept, err)
		case c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)):
			t.Errorf("%.3q: %v, want %q", c.given, err, c.refusal)
		}
		settings := DefaultSettings()
		settings.RelayNetworks = c.given
		if err := settings.Validate(); (err != nil) != (c.refusal != "") || err != nil && !strings.HasPrefix(err.Error(), "relay-networks: ") {
			t.Errorf("settings with %.3q: %v", c.given, err)
		}
	}
}
