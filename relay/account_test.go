package relay

import (
	"strings"
	"testing"
)

func TestAccountName(t *testing.T) {
	longest := strings.Repeat("a", MaxAccountName)
	for given, want := range map[string]string{
		"ann": "ann", "Ann": "ann", "App-1_b.c+d@Example.com": "app-1_b.c+d@example.com", longest: longest,
		"": "", longest + "a": "", "a b": "", "ann\x00": "", "jürgen": "", "\u212a": "", // KELVIN SIGN, which folds to k
		"a\"b": "", "a\n": "",
	} {
		if got, ok := AccountName(given); got != want || ok != (want != "") {
			t.Errorf("AccountName(%q) = %q, %v, want %q", given, got, ok, want)
		}
	}
}
