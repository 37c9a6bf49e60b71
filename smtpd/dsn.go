package smtpd

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast/relay"
)

// Limits of RFC 3461 sections 4.2 and 4.4, in encoded octets.
const (
	maxEnvid = 100
	maxOrcpt = 500
)

// parseRet reads RET= (RFC 3461 section 4.3).
func parseRet(value string) (string, *relay.Reply) {
	switch ret := strings.ToUpper(value); ret {
	case "FULL", "HDRS":
		return ret, nil
	}
	return "", reply(501, "5.5.4", "RET must be FULL or HDRS")
}

// parseEnvid reads ENVID=: xtext of printable ASCII (RFC 3461 section 4.4).
func parseEnvid(value string) (string, *relay.Reply) {
	envid, ok := decodeXtext(value)
	if !ok || value == "" || len(value) > maxEnvid || !isASCII(envid) || strings.ContainsFunc(envid, unicode.IsControl) {
		return "", reply(501, "5.5.4", "ENVID must be xtext of at most 100 octets")
	}
	return envid, nil
}

// parseNotify reads NOTIFY= (RFC 3461 section 4.1): NEVER alone, or a list of
// the other three, each once.
func parseNotify(value string) (string, *relay.Reply) {
	notify := strings.ToUpper(value)
	if notify == "NEVER" {
		return notify, nil
	}
	seen := map[string]bool{}
	for word := range strings.SplitSeq(notify, ",") {
		if word != "SUCCESS" && word != "FAILURE" && word != "DELAY" || seen[word] {
			return "", reply(501, "5.5.4", "NOTIFY must be NEVER, or of SUCCESS, FAILURE and DELAY")
		}
		seen[word] = true
	}
	return notify, nil
}

// parseOrcpt reads ORCPT=type;xtext (RFC 3461 section 4.2). The type utf-8 has
// characters by their number, and with SMTPUTF8 also as they are (RFC 6533 section 3).
func parseOrcpt(value string, smtputf8 bool) (string, *relay.Reply) {
	malformed := reply(501, "5.5.4", "ORCPT must be a type, a semicolon and xtext, of at most 500 octets")
	kind, encoded, _ := strings.Cut(value, ";")
	if len(value) > maxOrcpt || !validKeyword(kind) || encoded == "" {
		return "", malformed
	}
	international := smtputf8 && strings.EqualFold(kind, "utf-8")
	if !isASCII(encoded) && !international {
		return "", malformed
	}
	address, ok := decodeXtext(encoded)
	if ok && strings.EqualFold(kind, "utf-8") {
		address, ok = decodeUnitext(address)
	}
	if !ok || !utf8.ValidString(address) || strings.ContainsFunc(address, unicode.IsControl) {
		return "", malformed
	}
	return kind + ";" + address, nil
}

// decodeXtext undoes RFC 3461 section 4: +HH is an octet, the rest stands for
// itself.
func decodeXtext(s string) (string, bool) {
	var b strings.Builder
	for len(s) > 0 {
		plain, encoded, found := strings.Cut(s, "+")
		b.WriteString(plain)
		if !found {
			break
		}
		if len(encoded) < 2 {
			return "", false
		}
		high, low := hexDigit(encoded[0]), hexDigit(encoded[1])
		if high < 0 || low < 0 {
			return "", false
		}
		b.WriteByte(byte(high<<4 | low))
		s = encoded[2:]
	}
	return b.String(), true
}

// decodeUnitext undoes RFC 6533 section 3: \x{FC} is the character of that number.
func decodeUnitext(s string) (string, bool) {
	var b strings.Builder
	for {
		plain, encoded, found := strings.Cut(s, `\x{`)
		b.WriteString(plain)
		if !found {
			return b.String(), true
		}
		digits, rest, closed := strings.Cut(encoded, "}")
		point, err := strconv.ParseInt(digits, 16, 32)
		if !closed || err != nil || !utf8.ValidRune(rune(point)) {
			return "", false
		}
		b.WriteRune(rune(point))
		s = rest
	}
}

// hexDigit is the value of a digit in upper case, as the RFC has it, or -1.
func hexDigit(c byte) int {
	return strings.IndexByte("0123456789ABCDEF", c)
}
