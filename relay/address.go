package relay

import (
	"errors"
	"strings"
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
