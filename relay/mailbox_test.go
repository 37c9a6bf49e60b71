package relay

import (
	"strings"
	"testing"
)

func TestParseMailbox(t *testing.T) {
	for address, want := range map[string][2]string{
		"Anna@Example.TEST":                  {"Anna", "example.test"},
		"Anna@B\u00fccher.test":              {"Anna", "xn--bcher-kva.test"},
		`"a@b"@example.test`:                 {`"a@b"`, "example.test"},
		"j\u00f6rg@example.test":             {"j\u00f6rg", "example.test"},
		"anna@":                              {},
		"anna":                               {},
		"@example.test":                      {},
		"an na@example.test":                 {},
		"anna@exa mple.test":                 {},
		"<anna@example.test>":                {},
		"anna@one.test@two.test":             {},
		"anna@*":                             {},
		"an\x00na@example.test":              {},
		"an\xffna@example.test":              {},
		"a@\u0378.example":                   {},
		strings.Repeat("a", 250) + "@b.test": {},
	} {
		local, domain, err := ParseMailbox(address)
		if local != want[0] || domain != want[1] || (err != nil) != (want[1] == "") {
			t.Errorf("%q: %q %q %v", address, local, domain, err)
		}
	}
}

func TestListedLocalPart(t *testing.T) {
	const domain = "xn--bcher-kva.test"
	for given, want := range map[string]string{
		"Anna": "anna", "Anna@B\u00fccher.TEST": "anna", "anna@XN--bcher-kva.test": "anna", "\u00c4nne": "\u00e4nne",
		`"An na"`: `"an na"`, "\"An na\"@b\u00fccher.test": `"an na"`, "a+tag": "a+tag",
	} {
		if got, err := ListedLocalPart(domain, given); err != nil || got != want {
			t.Errorf("%q: %q %v", given, got, err)
		}
	}
	for given, want := range map[string]string{
		"":                       `"" is neither a mail address nor a local part of one`,
		"an na":                  `"an na" is neither`,
		"anna@":                  `"anna@" is neither`,
		"anna@other.test":        "anna@other.test is an address of domain other.test, not of xn--bcher-kva.test",
		"a;b":                    `"a;b" is neither`,
		"# anna":                 `"# anna" is neither`,
		strings.Repeat("a", 250): "is neither",
	} {
		if got, err := ListedLocalPart(domain, given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q %v", given, got, err)
		}
	}
}
