package relay

import (
	"fmt"
	"net/netip"
)

// MaxRelayNetworks bounds the list of the settings, which each client's address is
// compared with.
const MaxRelayNetworks = 1000

// ParseNetwork reads an address, or a network without bits of a host in it.
func ParseNetwork(text string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(text) // which takes no zone
	if address, notNetwork := netip.ParseAddr(text); notNetwork == nil && address.Zone() == "" {
		network, err = address.Prefix(address.BitLen())
	}
	if err != nil || network.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a network such as \"10.1.0.0/24\"", text)
	}
	if network != network.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q is an address within the network %s: which of the two?", text, network.Masked())
	}
	return network, nil
}

// The shortest prefixes of networks that somebody may have for themselves. Without
// them 0.0.0.0/1 and 128.0.0.0/1 would do what 0.0.0.0/0 is refused for.
const (
	leastBits4 = 8 // 10.0.0.0/8
	leastBits6 = 7 // fc00::/7, RFC 4193
)

// ParseRelayNetworks reads the networks whose clients may send mail to any domain.
func ParseRelayNetworks(texts []string) ([]netip.Prefix, error) {
	if len(texts) > MaxRelayNetworks {
		return nil, fmt.Errorf("%d addresses and networks: want %d at most", len(texts), MaxRelayNetworks)
	}
	var networks []netip.Prefix
	known := make(map[netip.Prefix]bool)
	for _, text := range texts {
		network, err := ParseNetwork(text)
		if err != nil {
			return nil, err
		}
		least := leastBits6
		if network.Addr().Is4() {
			least = leastBits4
		}
		switch {
		case network.Bits() == 0:
			return nil, fmt.Errorf("%q is everybody: that is an open relay, which all the world's spam goes through", text)
		case network.Bits() < least:
			return nil, fmt.Errorf("%q is more than anybody's own network: want /%d or longer, or this is an open relay", text, least)
		case known[network]:
			return nil, fmt.Errorf("%s is there twice", NetworkText(network))
		}
		known[network] = true
		networks = append(networks, network)
	}
	return networks, nil
}

// NetworkText writes a network, or an address where it has only one.
func NetworkText(network netip.Prefix) string {
	if network.IsSingleIP() {
		return network.Addr().String()
	}
	return network.String()
}

// RelayNetworkTexts is how a list of relay networks is kept: checked, and each
// written in one way.
func RelayNetworkTexts(texts []string) ([]string, error) {
	networks, err := ParseRelayNetworks(texts)
	kept := make([]string, len(networks))
	for i, network := range networks {
		kept[i] = NetworkText(network)
	}
	return kept, err
}
