package smtpd

import (
	"errors"
	"strings"
	"unicode"

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
	local := relay.LocalPartLength(s)
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
	if end < local || !relay.ValidDomain(s[local+1:end]) {
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
		if !strings.HasPrefix(hop, "@") || !relay.ValidDomain(hop[1:]) {
			return "", errDomain
		}
	}
	return mailbox, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}
