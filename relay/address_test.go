package relay

import "testing"

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
		"postmaster":              "",
		"":                        "",
	} {
		if got := RelayDomain(address); got != want {
			t.Errorf("RelayDomain(%q) = %q, want %q", address, got, want)
		}
	}
}
