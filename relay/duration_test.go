package relay

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                "0s",
		time.Second:                      "1s",
		90 * time.Second:                 "1m30s",
		15 * time.Minute:                 "15m",
		20 * time.Hour:                   "20h",
		2*time.Hour + 30*time.Minute:     "2h30m",
		2*time.Hour + 5*time.Second:      "2h0m5s",
		4 * day:                          "4d",
		36 * time.Hour:                   "1d12h",
		10*day + 10*time.Minute:          "10d10m",
		1500 * time.Millisecond:          "1.5s",
		day + 20*time.Minute + time.Hour: "1d1h20m",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestDurationsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]time.Duration{time.Nanosecond, time.Second, time.Minute, time.Hour, day}).Draw(t, "unit")
		d := time.Duration(rapid.Int64Range(0, int64(36000*day/unit)).Draw(t, "n")) * unit
		got, err := ParseDuration(FormatDuration(d))
		if err != nil || got != d {
			t.Fatalf("%d is written %q and read %d, %v", d, FormatDuration(d), got, err)
		}
	})
}

func TestParseDurationRefuses(t *testing.T) {
	for _, s := range []string{"", "d", "-1h", "4", "4 d", "99999d", "1h4d", "soon"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q is read as %s", s, d)
		}
	}
}
