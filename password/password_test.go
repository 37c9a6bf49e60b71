package password

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"holdfast/test/race"
)

func TestMatches(t *testing.T) {
	race.Sequential(t)
	longest := strings.Repeat("x", Max)
	for _, password := range []string{"correct horse", longest, "gr\u00fcn und \u00a0blau"} {
		prepared, err := Prepare(password)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := Hash(prepared)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(hash, prepared) || len(hash) > 255 {
			t.Errorf("hash %q", hash)
		}
		for _, wrong := range []string{"", password + "x", password[1:], "\x00" + password, "\xff"} {
			if Matches(hash, wrong) {
				t.Errorf("%q is taken for %q", wrong, password)
			}
		}
		if !Matches(hash, password) {
			t.Errorf("%q doesn't match", password)
		}
	}
}

// One machine types a letter with its accent, another as two characters.
func TestTypedDifferently(t *testing.T) {
	race.Sequential(t)
	prepared, err := Prepare("gru\u0308n und blau")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(prepared), bcrypt.MinCost)
	if err != nil || !Matches(string(hash), "gr\u00fcn\u00a0und blau") {
		t.Errorf("the same password doesn't match: %v", err)
	}
}

// kept is a hash of "correct horse" as accounts have it since there are accounts.
const kept = "$2a$10$HhlImRBKIfrZdV1Dol.8FOMjk6PJqqRF.H2L5RDJTrKDh7ERssYY."

// An account keeps the hash that it was given, and is told from one that isn't there
// by the time where the costs differ.
func TestKeptHashesCostAsMuch(t *testing.T) {
	cost, err := bcrypt.Cost([]byte(kept))
	if err != nil || cost != Cost {
		t.Errorf("the hashes that are kept cost %d, new ones and nobody's %d (%v): see Cost for what comes first", cost, Cost, err)
	}
	if !Matches(kept, "correct horse") {
		t.Error("a password that is kept doesn't match any more")
	}
}

// No password is right for an account that isn't there, and finding that out costs
// as much as for one that is.
func TestNobody(t *testing.T) {
	if cost, err := bcrypt.Cost([]byte(nobodys)); err != nil || cost != Cost {
		t.Errorf("it costs %d, a hash %d: %v", cost, Cost, err)
	}
	for _, guess := range []string{"", "impossible", "password", strings.Repeat("x", 100)} {
		if Matches("", guess) {
			t.Errorf("nobody has the password %q", guess)
		}
	}
}

func TestPrepare(t *testing.T) {
	for _, bad := range []string{"", "short", "with\ttab or so", "with\x00zero", strings.Repeat("x", Max+1), "bad \xff utf-8"} {
		if _, err := Prepare(bad); !errors.Is(err, ErrPassword) || strings.Contains(err.Error(), "tab or") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
