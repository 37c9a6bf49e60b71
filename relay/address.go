package relay

import (
	"errors"
	"strings"

	"golang.org/x/net/idna"
)

// ErrAddress is returned for what RFC 5321 section 4.1.2 doesn't allow as a
// mailbox, and for a mailbox without a domain.
var ErrAddress = errors.New("not a mail address")

// Limits of RFC 5321 section 4.5.3.1, in octets.
const (
	MaxDomain = 255
	MaxPath   = 254 // without the angle brackets
)

// SplitAddress cuts a mailbox at its last @. The domain comes back in lower
// case, the local part as it was: only its own host may fold it (RFC 5321
// section 2.4). Only ASCII is folded: Apply takes domains from here, and what is
// lower case beyond that depends on the version of Unicode that a program knows.
// RelayDomain maps U-labels, for those who propose.
func SplitAddress(address string) (local, domain string, err error) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 {
		return "", "", ErrAddress
	}
	return address[:at], lowerASCII(address[at+1:]), nil
}

func lowerASCII(s string) string {
	lower := []byte(s)
	for i, b := range lower {
		if 'A' <= b && b <= 'Z' {
			lower[i] = b + 'a' - 'A'
		}
	}
	return string(lower)
}

// ShellWord is the name of a relay domain as it stands in a command line.
func ShellWord(domain string) string {
	if domain == DefaultRoute {
		return "'" + domain + "'"
	}
	return domain
}

// DomainOf is the domain of a mailbox in lower case (ASCII), or "" where there is none
// (the null sender, a local part alone).
func DomainOf(address string) string {
	_, domain, err := SplitAddress(address)
	if err != nil {
		return ""
	}
	return domain
}

// DefaultRoute is the name of the relay domain that mail to domains which aren't
// configured goes by.
const DefaultRoute = "*"

// OtherDomain is the relay domain that mail to a mailbox goes by where that isn't the
// mailbox's domain as it stands, "" where it is: Apply is told of the one, and finds
// the other itself.
func OtherDomain(address, domain string) string {
	if domain != DomainOf(address) {
		return domain
	}
	return ""
}

// RouteOf is the relay domain that mail to a mailbox goes by: its own, or the default
// route. The latter is for names that the next hop can look up: not for address
// literals (RFC 5321 section 4.1.3).
func RouteOf(address string, configured func(domain string) bool) (domain string, found bool) {
	domain = RelayDomain(address)
	switch {
	case domain == "":
		return "", false
	case configured(domain):
		return domain, true
	case IsLiteral(domain):
		return domain, false
	}
	return DefaultRoute, configured(DefaultRoute)
}

// IsLiteral reports whether a domain is an address in brackets.
func IsLiteral(domain string) bool { return strings.HasPrefix(domain, "[") }

// RelayDomain is the domain of a mailbox as relay domains are configured: in
// lower case, and in A-labels where the mailbox has it in U-labels (RFC 6531
// section 3.1, RFC 5890). "" where there is none, or none that DNS could have.
func RelayDomain(address string) string {
	domain := DomainOf(address)
	if domain == DefaultRoute {
		return ""
	}
	for i := range len(domain) {
		if domain[i] < 0x80 {
			continue
		}
		ascii, err := idna.Lookup.ToASCII(domain)
		if err != nil {
			return ""
		}
		return ascii
	}
	return domain
}
