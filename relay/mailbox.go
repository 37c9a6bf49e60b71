package relay

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseMailbox takes a mailbox apart as RCPT has it: the local part as it is written
// (RFC 5321 section 2.4), the domain as relay domains are configured.
func ParseMailbox(address string) (local, domain string, err error) {
	n := LocalPartLength(address)
	if n == 0 || n == len(address) || address[n] != '@' || !ValidDomain(address[n+1:]) || len(address) > MaxPath {
		return "", "", ErrAddress
	}
	if domain = RelayDomain(address); domain == "" {
		return "", "", ErrAddress
	}
	return address[:n], domain, nil
}

// ListedLocalPart is a recipient as a domain's list has it: the local part in lower
// case. It is given so, or as an address of the domain.
func ListedLocalPart(domain, given string) (string, error) {
	if n := LocalPartLength(given); n > 0 && n == len(given) && n+len("@")+len(domain) <= MaxPath {
		return strings.ToLower(given), nil
	}
	local, of, err := ParseMailbox(given)
	switch {
	case err != nil:
		return "", fmt.Errorf("%q is neither a mail address nor a local part of one", given)
	case of != domain:
		return "", fmt.Errorf("%s is an address of domain %s, not of %s", given, of, domain)
	}
	return strings.ToLower(local), nil
}

// LocalPartLength is how much of s is a local part: a quoted string, or atoms
// and dots. It is 0 where there is none.
func LocalPartLength(s string) int {
	if strings.HasPrefix(s, `"`) {
		return quotedLength(s)
	}
	n := 0
	for i, r := range s {
		if !isAtext(r) && r != '.' {
			return i
		}
		n = i + utf8.RuneLen(r)
	}
	return n
}

// quotedLength is the length of the Quoted-string at the beginning of s (RFC
// 5321 section 4.1.2), 0 if it is malformed.
func quotedLength(s string) int {
	escaped := false
	for i, r := range s {
		switch {
		case i == 0:
		case unicode.IsControl(r) || r == utf8.RuneError:
			return 0
		case escaped:
			if r > unicode.MaxASCII {
				return 0
			}
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			return i + 1
		}
	}
	return 0
}

// isAtext is RFC 5322 section 3.2.3 with the UTF-8 of RFC 6531.
func isAtext(r rune) bool {
	switch {
	case isAlphanumeric(r):
		return true
	case r > unicode.MaxASCII:
		return isInternational(r)
	}
	return strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// isInternational leaves out what could pass for a line end or a blank
// somewhere down the line.
func isInternational(r rune) bool {
	return r > unicode.MaxASCII && r != utf8.RuneError && !unicode.IsControl(r) && !unicode.IsSpace(r)
}

// ValidDomain takes host names, underscores too because they are in use,
// U-labels, and address literals.
func ValidDomain(domain string) bool {
	if len(domain) > MaxDomain {
		return false
	}
	if strings.HasPrefix(domain, "[") {
		return validLiteral(domain)
	}
	for label := range strings.SplitSeq(domain, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

func validLabel(label string) bool {
	international := func(r rune) bool { return r > unicode.MaxASCII }
	if label == "" || len(label) > 63 && !strings.ContainsFunc(label, international) {
		return false
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, r := range label {
		if !isAlphanumeric(r) && r != '-' && r != '_' && !isInternational(r) {
			return false
		}
	}
	return true
}

// validLiteral checks the form only: what is inside the brackets matters to
// nobody, since no literal is a relay domain.
func validLiteral(s string) bool {
	if len(s) < 3 || s[len(s)-1] != ']' {
		return false
	}
	for _, c := range s[1 : len(s)-1] {
		if !isAlphanumeric(c) && c != '.' && c != ':' && c != '-' {
			return false
		}
	}
	return true
}
