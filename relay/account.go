package relay

import "strings"

// MaxAccountName is the length of the longest name of an account, in octets.
const MaxAccountName = 128

// AccountName is the name of an account for SMTP AUTH as it is kept: in lower case,
// since people don't tell "Ann" from "ann" and no two accounts may differ in that
// alone. It has letters, digits, ".", "_", "-", "+" and "@", so a mail address can
// be one, and it stands in the log as it is.
func AccountName(given string) (name string, ok bool) {
	if given == "" || len(given) > MaxAccountName {
		return "", false
	}
	odd := strings.ContainsFunc(given, func(r rune) bool {
		return !strings.ContainsRune("._-+@", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if odd {
		return "", false
	}
	return strings.ToLower(given), true
}
