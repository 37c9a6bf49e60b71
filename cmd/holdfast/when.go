package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

var days = regexp.MustCompile(`^([0-9]+)d(.*)$`)

// parseDuration takes what time.ParseDuration takes, with days in front: 4d, 1d12h.
func parseDuration(s string) (time.Duration, error) {
	rest, total := s, time.Duration(0)
	if m := days.FindStringSubmatch(s); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 32)
		if err != nil || n > 36500 {
			return 0, fmt.Errorf("duration %q is too long", s)
		}
		total, rest = time.Duration(n)*24*time.Hour, m[2]
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

// durationFlag is a duration that takes days.
type durationFlag struct {
	value time.Duration
}

func (d *durationFlag) String() string {
	if d.value == 0 {
		return ""
	}
	return shortDuration(d.value)
}

func (d *durationFlag) Set(s string) (err error) {
	d.value, err = parseDuration(s)
	return err
}

func (d *durationFlag) Type() string { return "duration" }

// parseTime takes a point in time, or how long ago it was. Without a zone it
// is UTC, as times are shown.
func (a *app) parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if ago, err := parseDuration(s); err == nil {
		return a.now().Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("time %q: want 2006-01-02T15:04:05Z, 2006-01-02, or how long ago, such as 2h", s)
}

// when shows a time both ways: as it is, and from now.
func (a *app) when(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	at := t.AsTime()
	return fmt.Sprintf("%s (%s)", at.Format("2006-01-02 15:04:05Z"), a.fromNow(at))
}

func (a *app) fromNow(at time.Time) string {
	d := at.Sub(a.now()).Round(time.Second)
	switch {
	case d == 0:
		return "now"
	case d > 0:
		return "in " + shortDuration(d)
	}
	return shortDuration(-d) + " ago"
}

// shortDuration keeps the two largest units.
func shortDuration(d time.Duration) string {
	if d < time.Second {
		return d.String()
	}
	units := []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	var b strings.Builder
	written := 0
	for _, unit := range units {
		n := int64(d / unit.length)
		d %= unit.length
		if n > 0 && written < 2 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
		}
		if b.Len() > 0 {
			written++
		}
	}
	return b.String()
}
