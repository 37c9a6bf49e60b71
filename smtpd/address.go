package smtpd

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast/relay"
)

var (
	errPath        = errors.New("want a mailbox in angle brackets")
	errLocalPart   = errors.New("bad local part")
	errDomain      = errors.New("bad domain")
	errPathTooLong = errors.New("address too long")
)

// parsePath reads a path at the beginning of s and returns the mailbox exactly
// as it was given, quotes included, with what follows the path. The mailbox is
// "" for <>, and has no domain only if it is Postmaster (RFC 5321 section
// 4.1.1.3). Mailboxes may have UTF-8 (RFC 6531 section 3.3); whether that was
// announced is for the caller to check.
func parsePath(s string) (address, rest string, err error) {
	if !strings.HasPrefix(s, "<") {
		return "", "", errPath
	}
	s = s[1:]
	if strings.HasPrefix(s, ">") {
		return "", s[1:], nil
	}
	if s, err = skipRoute(s); err != nil {
		return "", "", err
	}
	local := localPartLength(s)
	if local == 0 || local == len(s) {
		return "", "", errLocalPart
	}
	if s[local] == '>' && strings.EqualFold(s[:local], "postmaster") {
		return s[:local], s[local+1:], nil
	}
	if s[local] != '@' {
		return "", "", errLocalPart
	}
	end := strings.IndexByte(s[local:], '>') + local
	if end < local || !validDomain(s[local+1:end]) {
		return "", "", errDomain
	}
	if end > relay.MaxPath {
		return "", "", errPathTooLong
	}
	return s[:end], s[end+1:], nil
}

// skipRoute drops a source route: it must be accepted and should be ignored
// (RFC 5321 section 4.1.1.3 and appendix C).
func skipRoute(s string) (string, error) {
	if !strings.HasPrefix(s, "@") {
		return s, nil
	}
	route, mailbox, found := strings.Cut(s, ":")
	if !found {
		return "", errPath
	}
	for hop := range strings.SplitSeq(route, ",") {
		if !strings.HasPrefix(hop, "@") || !validDomain(hop[1:]) {
			return "", errDomain
		}
	}
	return mailbox, nil
}

// localPartLength is how much of s is a local part: a quoted string, or atoms
// and dots. It is 0 where there is none.
func localPartLength(s string) int {
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

// validDomain takes host names, underscores too because they are in use,
// U-labels, and address literals.
func validDomain(domain string) bool {
	if len(domain) > relay.MaxDomain {
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
	if label == "" || len(label) > 63 && isASCII(label) {
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

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}
