package relay

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// DefaultSpamRetention is the age at which marked mail is dropped where a domain
// sets none.
const DefaultSpamRetention = 5 * day

// MaxSpamRules bounds the rules of a domain.
const MaxSpamRules = 20

// SpamRule is a condition on the headers of a message: X-Spam-Score>5.
type SpamRule struct {
	Header   string
	Operator string // =, !=, >, >=, <, <=, or "" for "is there"
	Value    string
}

var (
	spamRule = regexp.MustCompile(`^([A-Za-z0-9_-]{1,100})(?:\s*(!=|>=|<=|=|>|<)\s*(.*))?$`)
	// A score is often followed by words: "7.2 / 5.0 (7 hits)".
	leadingNumber = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?`)
)

// ParseSpamRule reads a rule as `domain set --spam-if` takes it.
func ParseSpamRule(s string) (SpamRule, error) {
	m := spamRule.FindStringSubmatch(s)
	if m == nil || len(s) > 300 {
		return SpamRule{}, fmt.Errorf("spam rule %q: want HEADER, or HEADER with one of = != > >= < <= and a value", s)
	}
	rule := SpamRule{Header: m[1], Operator: m[2], Value: strings.TrimSpace(m[3])}
	if rule.Operator != "" && rule.Value == "" {
		return SpamRule{}, fmt.Errorf("spam rule %q: the value is missing", s)
	}
	if _, isNumber := number(rule.Value); strings.ContainsAny(rule.Operator, "<>") && !isNumber {
		return SpamRule{}, fmt.Errorf("spam rule %q: %s compares numbers, and %q is none", s, rule.Operator, rule.Value)
	}
	return rule, nil
}

// String writes a rule the way ParseSpamRule reads it.
func (r SpamRule) String() string { return r.Header + r.Operator + r.Value }

// Holds reports whether the rule holds for the values that its header has in a
// message, each unfolded: one of them is enough, so that a sender can't take a
// filter's mark away by adding another. Without the header no rule holds.
func (r SpamRule) Holds(values []string) bool {
	return slices.ContainsFunc(values, func(value string) bool { return r.holds(strings.TrimSpace(value)) })
}

func (r SpamRule) holds(value string) bool {
	if r.Operator == "" {
		return true
	}
	want, wantNumber := number(r.Value)
	got, gotNumber := number(leadingNumber.FindString(value))
	same := strings.EqualFold(value, r.Value) || wantNumber && gotNumber && got == want
	switch r.Operator {
	case "=":
		return same
	case "!=":
		return !same
	}
	if !gotNumber || !wantNumber {
		return false
	}
	switch r.Operator {
	case ">":
		return got > want
	case ">=":
		return got >= want
	case "<":
		return got < want
	}
	return got <= want
}

func number(s string) (float64, bool) {
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && leadingNumber.FindString(s) == s
}
