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
// section 2.4).
func SplitAddress(address string) (local, domain string, err error) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 {
		return "", "", ErrAddress
	}
	return address[:at], strings.ToLower(address[at+1:]), nil
}

// DomainOf is the domain of a mailbox in lower case, or "" where there is none
// (the null sender, a local part alone).
func DomainOf(address string) string {
	_, domain, err := SplitAddress(address)
	if err != nil {
		return ""
	}
	return domain
}

// OtherDomain is the relay domain of a mailbox where that isn't its domain as it
// stands, "" where it is: Apply is told of the one, and finds the other itself.
func OtherDomain(address string) string {
	if domain := RelayDomain(address); domain != DomainOf(address) {
		return domain
	}
	return ""
}

// RelayDomain is the domain of a mailbox as relay domains are configured: in
// lower case, and in A-labels where the mailbox has it in U-labels (RFC 6531
// section 3.1, RFC 5890). "" where there is none, or none that DNS could have.
func RelayDomain(address string) string {
	domain := DomainOf(address)
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
