package smtpd

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"holdfast/relay"
)

func TestParsePath(t *testing.T) {
	label := strings.Repeat("l", 63)
	tests := []struct {
		in, address, rest string
		err               error
	}{
		{"<>", "", "", nil},
		{"<a@b.example> SIZE=1", "a@b.example", " SIZE=1", nil},
		{"<a.b+c=d/e@B.Example>", "a.b+c=d/e@B.Example", "", nil},
		{"<.a..b.@b.example>", ".a..b.@b.example", "", nil},
		{`<"x> SIZE=1 <"@d.example>`, `"x> SIZE=1 <"@d.example`, "", nil},
		{`<"a\"b\\"@d.example>`, `"a\"b\\"@d.example`, "", nil},
		{`<""@d.example>`, `""@d.example`, "", nil},
		{"<@x.example,@y.example:a@b.example>", "a@b.example", "", nil},
		{"<a@[192.0.2.1]>", "a@[192.0.2.1]", "", nil},
		{"<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", "", nil},
		{"<pöst@büro.example>", "pöst@büro.example", "", nil},
		{"<POSTmaster>", "POSTmaster", "", nil},
		{"<a@under_score.example>", "a@under_score.example", "", nil},
		{"<" + strings.Repeat("l", 240) + "@b.example>", strings.Repeat("l", 240) + "@b.example", "", nil},
		{"<" + strings.Repeat("l", 250) + "@b.example>", "", "", errPathTooLong},
		{"<a@" + label + "." + label + ".example>", "a@" + label + "." + label + ".example", "", nil},
		{"<a@l" + label + ".example>", "", "", errDomain},
		{"<a@" + strings.Repeat("l.", 130) + "example>", "", "", errDomain},
		{"", "", "", errPath},
		{"a@b.example", "", "", errPath},
		{"<a@b.example", "", "", errDomain},
		{"<a", "", "", errLocalPart},
		{"<a>", "", "", errLocalPart},
		{"<@b.example>", "", "", errPath},
		{"<@b.example:>", "", "", errLocalPart},
		{"<b.example:a@b.example>", "", "", errLocalPart},
		{"<@-:a@b.example>", "", "", errDomain},
		{"<a b@b.example>", "", "", errLocalPart},
		{"<a@b@c.example>", "", "", errDomain},
		{"<a@b..example>", "", "", errDomain},
		{"<a@b.example.>", "", "", errDomain},
		{"<a@-b.example>", "", "", errDomain},
		{"<a@b-.example>", "", "", errDomain},
		{"<a@[]>", "", "", errDomain},
		{"<a@[1@2]>", "", "", errDomain},
		{"<a@[1>", "", "", errDomain},
		{`<"a@b.example>`, "", "", errLocalPart},
		{`<"a"b@b.example>`, "", "", errLocalPart},
		{`<"a\ö"@b.example>`, "", "", errLocalPart},
		{"<a\u00a0b@b.example>", "", "", errLocalPart},
		{"<a@b\u2028c.example>", "", "", errDomain},
	}
	for _, test := range tests {
		address, rest, err := parsePath(test.in)
		if address != test.address || rest != test.rest || !errors.Is(err, test.err) {
			t.Errorf("%q: got %q, %q, %v; want %q, %q, %v", test.in, address, rest, err, test.address, test.rest, test.err)
		}
	}
}

func TestParseDSNParameters(t *testing.T) {
	rcpt := map[string]string{ // parameter to NOTIFY and ORCPT, or the code
		"":                                         "|",
		"NOTIFY=never":                             "NEVER|",
		"NOTIFY=SUCCESS,FAILURE,DELAY":             "SUCCESS,FAILURE,DELAY|",
		"NOTIFY=DELAY,DELAY":                       "501",
		"NOTIFY=":                                  "501",
		"NOTIFY":                                   "501",
		"NOTIFY=NEVER,SUCCESS":                     "501",
		"ORCPT=rfc822;a+2Bb+3D@x.example":          "|rfc822;a+b=@x.example",
		"ORCPT=rfc822;a+2bb":                       "501",
		"ORCPT=rfc822;a+2":                         "501",
		"ORCPT=rfc822;a+0Ab":                       "501",
		"ORCPT=rfc822;a+FFb":                       "501",
		"ORCPT=rfc822;":                            "501",
		"ORCPT=;a":                                 "501",
		"ORCPT=utf-8;ä":                            "501", // without SMTPUTF8
		`ORCPT=utf-8;gr\x{FC}n@x.example`:          "|utf-8;grün@x.example",
		`ORCPT=UTF-8;a\x{2B}b@x.example`:           "|UTF-8;a+b@x.example",
		`ORCPT=utf-8;a\x{1F600}@x.example`:         "|utf-8;a\U0001F600@x.example",
		`ORCPT=rfc822;a\x{FC}@x.example`:           `|rfc822;a\x{FC}@x.example`,
		`ORCPT=utf-8;a\x{FC`:                       "501",
		`ORCPT=utf-8;a\x{}`:                        "501",
		`ORCPT=utf-8;a\x{A}`:                       "501",
		`ORCPT=utf-8;a\x{D800}`:                    "501",
		`ORCPT=utf-8;a\x{-1}`:                      "501",
		"ORCPT=rfc822;" + strings.Repeat("x", 493): "|rfc822;" + strings.Repeat("x", 493),
		"ORCPT=rfc822;" + strings.Repeat("x", 494): "501",
		"FOO":     "555",
		"=":       "501",
		"A=B=C":   "501",
		"-A":      "501",
		"SIZE=10": "555",
	}
	for parameters, want := range rcpt {
		recipient, refusal := parseRcpt("TO:<a@b.example> "+parameters, false)
		var got string
		if refusal != nil {
			got = refusal.String()[:3]
		} else {
			got = recipient.Notify + "|" + recipient.Orcpt
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", parameters, got, want)
		}
	}
	mail := map[string]string{
		"RET=full ENVID=x+2By+20z":          "FULL|x+y z",
		"ENVID=" + strings.Repeat("x", 100): "|" + strings.Repeat("x", 100),
		"ENVID=" + strings.Repeat("x", 101): "501",
		"ENVID=ä":                           "501",
		"ENVID=+00":                         "501",
		"RET=":                              "501",
	}
	for parameters, want := range mail {
		envelope, _, refusal := parseMail("FROM:<a@b.example> "+parameters, true)
		var got string
		if refusal != nil {
			got = refusal.String()[:3]
		} else {
			got = envelope.Ret + "|" + envelope.Envid
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", parameters, got, want)
		}
	}
}

func TestParseBDAT(t *testing.T) {
	for in, want := range map[string]struct {
		size uint64
		last bool
		ok   bool
	}{
		"0":                    {0, false, true},
		"10 LAST":              {10, true, true},
		"10  last":             {10, true, true},
		"9223372036854775807":  {1<<63 - 1, false, true},
		"9223372036854775808":  {},
		"18446744073709551616": {},
		"-1":                   {},
		"+1":                   {},
		"1_0":                  {},
		"0x10":                 {},
		"":                     {},
		"LAST":                 {},
		"1 FIRST":              {},
		"1 LAST now":           {},
	} {
		size, last, refusal := parseBDAT(in)
		if (refusal == nil) != want.ok || size != want.size || last != want.last {
			t.Errorf("%q: %d, %v, %v", in, size, last, refusal)
		}
	}
}

// FuzzCommand holds what the rest of the session relies on: whatever passes the
// parser can be written into headers, events and the next hop's commands.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		"MAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2B",
		`RCPT TO:<"x> y"@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb`,
		"MAIL FROM:<@x,@y:a@b>", "RCPT TO:<Postmaster>", "BDAT 10 LAST", "EHLO [IPv6:::1]", "MAIL FROM:<ä@ö> SMTPUTF8", "\xff", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		verb, rest, refusal := splitCommand(line)
		if refusal != nil {
			return
		}
		if helo, refusal := parseHello(rest); refusal == nil {
			holdsPlain(t, helo, false)
		}
		if size, _, refusal := parseBDAT(rest); refusal == nil && size > 1<<63-1 {
			t.Errorf("BDAT %s is %d", rest, size)
		}
		if envelope, size, refusal := parseMail(rest, true); refusal == nil {
			if size < 0 {
				t.Errorf("%s %s: size %d", verb, rest, size)
			}
			holdsAddress(t, envelope.From, envelope.Smtputf8)
			holdsPlain(t, envelope.Envid, true)
			if _, err := proto.Marshal(envelope); err != nil {
				t.Error(err)
			}
		}
		for _, smtputf8 := range []bool{false, true} {
			recipient, refusal := parseRcpt(rest, smtputf8)
			if refusal != nil {
				continue
			}
			holdsAddress(t, recipient.Address, smtputf8)
			holdsPlain(t, recipient.Notify, false)
			if _, err := proto.Marshal(recipient); err != nil {
				t.Error(err)
			}
			again, refusal := parseRcpt("TO:<"+recipient.Address+">", smtputf8)
			if refusal != nil || again.Address != recipient.Address {
				t.Errorf("%q doesn't survive the next hop: %v", recipient.Address, refusal)
			}
		}
	})
}

func holdsAddress(t *testing.T, address string, smtputf8 bool) {
	t.Helper()
	if address == "" || strings.EqualFold(address, "postmaster") {
		return
	}
	if !utf8.ValidString(address) || strings.ContainsFunc(address, unicode.IsControl) || len(address) > relay.MaxPath {
		t.Errorf("address %q", address)
	}
	if !smtputf8 && !isASCII(address) {
		t.Errorf("address %q without SMTPUTF8", address)
	}
	if _, _, err := relay.SplitAddress(address); err != nil {
		t.Errorf("address %q: %v", address, err)
	}
}

func holdsPlain(t *testing.T, s string, blanks bool) {
	t.Helper()
	if !isASCII(s) || strings.ContainsFunc(s, unicode.IsControl) || !blanks && strings.ContainsAny(s, " ()<>") {
		t.Errorf("%q", s)
	}
}
