package main

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/relay"
)

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
	d.value, err = relay.ParseDuration(s)
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
	if ago, err := relay.ParseDuration(s); err == nil {
		return a.now().Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("time %q: want 2006-01-02T15:04:05Z, 2006-01-02, or how long ago, such as 2h", s)
}

// parseClock takes a time of day: its latest occurrence, in UTC.
func (a *app) parseClock(s string) (time.Time, error) {
	clock, err := time.Parse("15:04", s)
	if err != nil {
		if clock, err = time.Parse("15:04:05", s); err != nil {
			return time.Time{}, err
		}
	}
	now := a.now().UTC()
	t := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), clock.Second(), 0, time.UTC)
	if t.After(now) {
		t = t.AddDate(0, 0, -1)
	}
	return t, nil
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
