package relay

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// decimal is a factor as it is kept: to the thousandth.
var decimal = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,3})?$`)

// ParsePhase reads "until=16h,every=15m,factor=1.5" as `policy set` takes it;
// without factor the interval stays the same.
func ParsePhase(s string) (RetryPhase, error) {
	phase := RetryPhase{Factor: 1}
	for option := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(option, "=")
		var err error
		switch key {
		case "until":
			phase.Until, err = ParseDuration(value)
		case "every":
			phase.Every, err = ParseDuration(value)
		case "factor":
			phase.Factor, err = parseDecimal(value)
		default:
			return RetryPhase{}, fmt.Errorf("phase %q: unknown option %q; there are until, every and factor", s, key)
		}
		if err != nil {
			return RetryPhase{}, fmt.Errorf("phase %q: %s: %w", s, key, err)
		}
	}
	if phase.Until == 0 || phase.Every == 0 {
		return RetryPhase{}, fmt.Errorf("phase %q: want until=AGE,every=INTERVAL[,factor=N]", s)
	}
	return phase, nil
}

// String writes a phase the way ParsePhase reads it.
func (p RetryPhase) String() string {
	s := "until=" + FormatDuration(p.Until) + ",every=" + FormatDuration(p.Every)
	if p.Factor != 1 {
		s += ",factor=" + strconv.FormatFloat(p.Factor, 'f', -1, 64)
	}
	return s
}

// ParsePercent reads "10%" or "2.5%" as a share; the sign may be left out.
func ParsePercent(s string) (float64, error) {
	n, err := parseDecimal(strings.TrimSuffix(s, "%"))
	if err != nil {
		return 0, fmt.Errorf("%q: want something like 10%%", s)
	}
	return n / 100, nil
}

func parseDecimal(s string) (float64, error) {
	if !decimal.MatchString(s) {
		return 0, fmt.Errorf("%q: want a number such as 2 or 1.5, with at most three decimals", s)
	}
	return strconv.ParseFloat(s, 64)
}
