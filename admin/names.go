package admin

import (
	"net"
	"net/netip"
	"regexp"
	"strings"

	"holdfast/relay"
)

var (
	label           = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	destinationName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

// domainName folds a domain to lower case and checks it as a DNS name
// (RFC 1035 section 2.3.1, with underscores and digits as hosts have them), or as that
// of the default route.
func domainName(name string) (string, error) {
	domain := strings.ToLower(name)
	if domain == relay.DefaultRoute {
		return domain, nil
	}
	for _, c := range domain {
		if c > 127 {
			return "", invalid("name", "domain %q: write it in its ASCII form (xn--…)", name)
		}
	}
	if !isDNSName(domain) {
		return "", invalid("name", "domain %q is not a domain name", name)
	}
	return domain, nil
}

func isDNSName(name string) bool {
	if name == "" || len(name) > relay.MaxDomain {
		return false
	}
	for part := range strings.SplitSeq(strings.ToLower(name), ".") {
		if !label.MatchString(part) {
			return false
		}
	}
	return true
}

func checkDestinationName(field, name string) error {
	if !destinationName.MatchString(name) {
		return invalid(field, "destination %q: want 1 to 63 letters, digits, \".\", \"_\" or \"-\"", name)
	}
	return nil
}

// checkHost wants host:port with an IP address or a DNS name.
func checkHost(address string) error {
	if strings.Contains(address, ",") {
		return invalid("hosts", "host %q: want HOST:PORT", address)
	}
	if _, err := relay.ParseHost(address); err != nil {
		return invalid("hosts", "%v", err)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return invalid("hosts", "host %q: want HOST:PORT", address)
	}
	if _, err := netip.ParseAddr(host); err != nil && !isDNSName(strings.TrimSuffix(host, ".")) {
		return invalid("hosts", "host %q: %q is neither an IP address nor a host name", address, host)
	}
	return nil
}
