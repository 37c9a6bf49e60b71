package relay

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

var days = regexp.MustCompile(`^([0-9]+)d(.*)$`)

// ParseDuration takes what time.ParseDuration takes, with days in front: 4d,
// 1d12h. A negative one is an error.
func ParseDuration(s string) (time.Duration, error) {
	rest, total := s, time.Duration(0)
	if m := days.FindStringSubmatch(s); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 32)
		if err != nil || n > 36500 {
			return 0, fmt.Errorf("duration %q is too long", s)
		}
		total, rest = time.Duration(n)*day, m[2]
	}
	if rest != "" || total == 0 {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("duration %q: want something like 30s, 15m, 2h or 4d", s)
		}
		total += d
	}
	return total, nil
}

// FormatDuration writes a duration so that ParseDuration reads the same: 4d,
// 1d12h, 22m30s.
func FormatDuration(d time.Duration) string {
	var b strings.Builder
	if n := d / day; n > 0 {
		fmt.Fprintf(&b, "%dd", n)
		d %= day
	}
	if d == 0 && b.Len() > 0 {
		return b.String()
	}
	// time.Duration writes the zeros between its units and behind them: 2h0m0s.
	rest := strings.TrimSuffix(d.String(), "m0s")
	if rest != d.String() {
		rest = strings.TrimSuffix(rest+"m", "h0m")
		if !strings.HasSuffix(rest, "m") {
			rest += "h"
		}
	}
	b.WriteString(rest)
	return b.String()
}
