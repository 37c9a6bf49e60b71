package relay

import (
	"strings"
	"testing"
)

func TestSpamRules(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		values string // one a line; "-" for no such header
		want   bool
	}{
		{"X-Spam-Flag", "NO", true},
		{"X-Spam-Flag", "-", false},
		{"X-Spam-Flag=YES", "yes", true},
		{"X-Spam-Flag = YES", " YES ", true},
		{"X-Spam-Flag=YES", "YES, really", false},
		{"X-Spam-Flag=YES", "NO\nYES", true},
		{"X-Spam-Flag!=NO", "YES", true},
		{"X-Spam-Flag!=NO", "no", false},
		{"X-Spam-Flag!=NO", "-", false},
		{"X-Spam-Score>5", "5.1", true},
		{"X-Spam-Score>5", "5", false},
		{"X-Spam-Score>5", "10", true},
		{"X-Spam-Score>5", "+7.2 / 5.0 (7 hits)", true},
		{"X-Spam-Score>5", "*****", false},
		{"X-Spam-Score>5", "", false},
		{"X-Spam-Score>=5", "5.0", true},
		{"X-Spam-Score<-1", "-1.5", true},
		{"X-Spam-Score<=-1", "-1", true},
		{"X-Spam-Score<5", "nan", false},
		{"X-Spam-Score=5", "5.00", true},
		{"X-Spam-Score!=5", "5.00", false},
	} {
		rule, err := ParseSpamRule(tt.rule)
		if err != nil {
			t.Errorf("%s: %v", tt.rule, err)
			continue
		}
		var values []string
		if tt.values != "-" {
			values = strings.Split(tt.values, "\n")
		}
		if got := rule.Holds(values); got != tt.want {
			t.Errorf("%s holds for %q: %t", tt.rule, tt.values, got)
		}
		if again, err := ParseSpamRule(rule.String()); err != nil || again != rule {
			t.Errorf("%q is written %q and read %v, %v", tt.rule, rule, again, err)
		}
	}
	for rule, want := range map[string]string{
		"": "want HEADER", "X Spam": "want HEADER", "X-Spam~5": "want HEADER", ">5": "want HEADER",
		"X-Spam-Score>": "the value is missing", "X-Spam-Score>high": "compares numbers", "X-Spam-Score>NaN": "compares numbers",
		"X-Spam:5": "want HEADER",
	} {
		if _, err := ParseSpamRule(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", rule, err, want)
		}
	}
}
