package smtpd

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// parameter is one Keyword[=value] of MAIL or RCPT.
type parameter struct {
	keyword string // upper case
	value   string // "" where there is none
}

// splitCommand cuts a line into its verb, in upper case, and the rest.
// Blanks at the end are tolerated (RFC 5321 section 4.1.1).
func splitCommand(line []byte) (verb, rest string, refusal *relay.Reply) {
	s := strings.TrimRight(string(line), " \t")
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", "", reply(500, "5.5.2", "line has control characters or isn't UTF-8")
	}
	verb, rest, _ = strings.Cut(s, " ")
	return strings.ToUpper(verb), strings.TrimLeft(rest, " "), nil
}

// parseHello checks the argument of EHLO or HELO: a domain or an address
// literal by its characters only, since it is for information (RFC 5321 section
// 4.1.4 forbids to refuse mail because a name can't be verified).
func parseHello(argument string) (string, *relay.Reply) {
	if argument == "" || len(argument) > relay.MaxDomain {
		return "", reply(501, "", "want your host name")
	}
	for _, r := range argument {
		if !isAlphanumeric(r) && !strings.ContainsRune(".-_:[]", r) {
			return "", reply(501, "", "not a host name")
		}
	}
	return argument, nil
}

// parseMail reads what follows MAIL, where AUTH was offered or wasn't. The size is 0
// where it isn't declared.
func parseMail(rest string, auth bool) (envelope *pb.Envelope, size int64, refusal *relay.Reply) {
	address, parameters, refusal := parsePathCommand(rest, "FROM:", "5.1.7")
	if refusal != nil {
		return nil, 0, refusal
	}
	if address != "" && relay.DomainOf(address) == "" {
		return nil, 0, reply(501, "5.1.7", "sender needs a domain")
	}
	envelope = &pb.Envelope{From: address}
	for _, p := range parameters {
		switch p.keyword {
		case "SIZE":
			size, refusal = parseSize(p.value)
		case "BODY":
			envelope.BodyType, refusal = parseBodyType(p.value)
		case "SMTPUTF8":
			envelope.Smtputf8 = true
			refusal = wantNoValue(p)
		case "RET":
			envelope.Ret, refusal = parseRet(p.value)
		case "ENVID":
			envelope.Envid, refusal = parseEnvid(p.value)
		case "AUTH":
			if refusal = unknownParameter(p); auth {
				refusal = checkAuthParameter(p.value)
			}
		default:
			refusal = unknownParameter(p)
		}
		if refusal != nil {
			return nil, 0, refusal
		}
	}
	if !envelope.Smtputf8 && !isASCII(address) {
		return nil, 0, needsSMTPUTF8
	}
	return envelope, size, nil
}

// parseRcpt reads what follows RCPT in a transaction with or without SMTPUTF8.
func parseRcpt(rest string, smtputf8 bool) (*pb.Recipient, *relay.Reply) {
	address, parameters, refusal := parsePathCommand(rest, "TO:", "5.1.3")
	if refusal != nil {
		return nil, refusal
	}
	if address == "" {
		return nil, reply(501, "5.1.3", "recipient can't be empty")
	}
	recipient := &pb.Recipient{Address: address}
	for _, p := range parameters {
		switch p.keyword {
		case "NOTIFY":
			recipient.Notify, refusal = parseNotify(p.value)
		case "ORCPT":
			recipient.Orcpt, refusal = parseOrcpt(p.value, smtputf8)
		default:
			refusal = unknownParameter(p)
		}
		if refusal != nil {
			return nil, refusal
		}
	}
	if !smtputf8 && !isASCII(address) {
		return nil, needsSMTPUTF8
	}
	return recipient, nil
}

// parsePathCommand reads "FROM:<path> parameters". A blank after the colon is
// against the grammar but common, and harmless.
func parsePathCommand(rest, keyword, enhanced string) (string, []parameter, *relay.Reply) {
	if len(rest) < len(keyword) || !strings.EqualFold(rest[:len(keyword)], keyword) {
		return "", nil, reply(501, "5.5.4", "want "+keyword+"<address>")
	}
	address, rest, err := parsePath(strings.TrimLeft(rest[len(keyword):], " "))
	if err != nil {
		return "", nil, reply(501, enhanced, err.Error())
	}
	if rest != "" && rest[0] != ' ' {
		return "", nil, reply(501, "5.5.4", "want a blank after the address")
	}
	parameters, refusal := parseParameters(rest)
	return address, parameters, refusal
}

// parseParameters reads esmtp-params (RFC 5321 section 4.1.2).
func parseParameters(s string) ([]parameter, *relay.Reply) {
	var parameters []parameter
	seen := map[string]bool{}
	for field := range strings.FieldsSeq(s) {
		keyword, value, hasValue := strings.Cut(field, "=")
		keyword = strings.ToUpper(keyword)
		if !validKeyword(keyword) || hasValue && value == "" || strings.Contains(value, "=") {
			return nil, reply(501, "5.5.4", "malformed parameter")
		}
		if seen[keyword] {
			return nil, reply(501, "5.5.4", "parameter "+keyword+" given twice")
		}
		seen[keyword] = true
		parameters = append(parameters, parameter{keyword, value})
	}
	return parameters, nil
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

func validKeyword(keyword string) bool {
	for i, r := range keyword {
		if !isAlphanumeric(r) && (i == 0 || r != '-') {
			return false
		}
	}
	return keyword != ""
}

func wantNoValue(p parameter) *relay.Reply {
	if p.value != "" {
		return reply(501, "5.5.4", p.keyword+" takes no value")
	}
	return nil
}

// unknownParameter is the answer to all that EHLO doesn't offer.
func unknownParameter(p parameter) *relay.Reply {
	return reply(555, "5.5.4", "parameter "+p.keyword+" isn't known here")
}

// parseSize reads SIZE= (RFC 1870 section 6.1: up to 20 digits). What doesn't
// fit is too large for any limit.
func parseSize(value string) (int64, *relay.Reply) {
	if value == "" || len(value) > 20 || strings.Trim(value, "0123456789") != "" {
		return 0, reply(501, "5.5.4", "SIZE must be a number")
	}
	size, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, tooLarge
	}
	return size, nil
}

// parseBodyType reads BODY= (RFC 6152). BINARYMIME isn't offered.
func parseBodyType(value string) (pb.BodyType, *relay.Reply) {
	switch strings.ToUpper(value) {
	case "7BIT":
		return pb.BodyType_BODY_TYPE_7BIT, nil
	case "8BITMIME":
		return pb.BodyType_BODY_TYPE_8BITMIME, nil
	}
	return 0, reply(501, "5.5.4", "BODY must be 7BIT or 8BITMIME")
}

// parseBDAT reads what follows BDAT (RFC 3030 section 2).
func parseBDAT(rest string) (size uint64, last bool, refusal *relay.Reply) {
	number, flag, _ := strings.Cut(rest, " ")
	flag = strings.TrimLeft(flag, " ")
	if flag != "" && !strings.EqualFold(flag, "LAST") {
		return 0, false, reply(501, "5.5.4", "want BDAT SIZE [LAST]")
	}
	// ParseUint alone takes a sign and underscores for errors as well.
	size, err := strconv.ParseUint(number, 10, 63)
	if err != nil {
		return 0, false, reply(501, "5.5.4", "want BDAT SIZE [LAST]")
	}
	return size, flag != "", nil
}
