package relay

import (
	"slices"
	"testing"
)

func TestRouteOf(t *testing.T) {
	for _, c := range []struct {
		address, domain string
		found           bool
		configured      []string
	}{
		{"a@Example.TEST", "example.test", true, []string{"example.test", "*"}},
		{"a@other.test", "*", true, []string{"example.test", "*"}},
		{"a@other.test", "*", false, []string{"example.test"}},
		{"a@[192.0.2.1]", "[192.0.2.1]", false, []string{"*"}},
		{"a@\u0378.example", "", false, []string{"*"}},
		{"a@*", "", false, []string{"*"}},
		{"postmaster", "", false, []string{"*"}},
	} {
		domain, found := RouteOf(c.address, func(name string) bool { return slices.Contains(c.configured, name) })
		if domain != c.domain || found != c.found {
			t.Errorf("RouteOf(%q) with %q: %q %t", c.address, c.configured, domain, found)
		}
	}
}

func TestRelayDomain(t *testing.T) {
	for address, want := range map[string]string{
		"a@Example.TEST":          "example.test",
		"\"a@b\"@example.test":    "example.test",
		"jürgen@bücher.example":   "xn--bcher-kva.example",
		"x@BÜCHER.example":        "xn--bcher-kva.example",
		"x@xn--bcher-kva.example": "xn--bcher-kva.example",
		"x@例え.テスト":                "xn--r8jz45g.xn--zckzah",
		"x@\u0378.example":        "", // unassigned
		"x@[192.0.2.1]":           "[192.0.2.1]",
		"x@*":                     "",
		"postmaster":              "",
		"":                        "",
	} {
		if got := RelayDomain(address); got != want {
			t.Errorf("RelayDomain(%q) = %q, want %q", address, got, want)
		}
	}
}

// What is lower case beyond ASCII differs between the programs of a rolling upgrade, and
// Apply takes domains from here.
func TestSplitAddressFoldsASCII(t *testing.T) {
	for address, want := range map[string]string{
		"Ann@EXAMPLE.Test":          "Ann example.test",
		"x@BÜCHER.Example":          "x bÜcher.example",
		"x@\u1c89\ua7cb\u2c00.TEST": "x \u1c89\ua7cb\u2c00.test", // of Unicode 16, 16 and 4.1
		"x@\U00010400A\xff":         "x \U00010400a\xff",
	} {
		if local, domain, err := SplitAddress(address); err != nil || local+" "+domain != want {
			t.Errorf("%q is %q at %q, %v, want %q", address, local, domain, err, want)
		}
	}
}
