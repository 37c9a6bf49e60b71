package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAgreedClock(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		what   string
		clocks []time.Duration // of the nodes that have pinged; the first one asks
		wrong  []int           // those that know that they are
		active int
		want   string // "" where the first one agrees with the others
	}{
		{"alone", []time.Duration{day}, nil, 1, ""},
		{"two that agree", []time.Duration{time.Second, 0}, nil, 2, ""},
		{"two that differ", []time.Duration{0, day}, nil, 2, "none of them is known to be right"},
		{"two that differ, and the other knows that it is wrong", []time.Duration{0, day}, []int{1}, 2, ""},
		{"two that differ, and the first knows that it is wrong", []time.Duration{0, day}, []int{0}, 2, "apart"},
		{"both know that they are wrong", []time.Duration{0, day}, []int{0, 1}, 2, "none of them is known to be right"},
		{"the one that is off", []time.Duration{day, 0, 0}, nil, 3, "apart"},
		{"one of those that aren't", []time.Duration{0, 0, day}, nil, 3, ""},
		{"two that were set right together", []time.Duration{day, day, 0}, []int{0, 1}, 3, ""},
		{"no majority has pinged yet", []time.Duration{0}, nil, 3, "aren't known yet"},
		{"one of four is off", []time.Duration{0, 0, 0, -day}, nil, 4, ""},
		{"the one of four", []time.Duration{-day, 0, 0, 0}, nil, 4, "apart"},
	} {
		all := map[uint64]*watched{}
		for i, clock := range test.clocks {
			all[uint64(i)] = &watched{clock: clock, clocked: true, clockWrong: slices.Contains(test.wrong, i)}
		}
		got := ""
		if agreed, err := agreedClock(all, test.active, 2*time.Second); err != nil {
			got = err.Error()
		} else if (agreed - test.clocks[0]).Abs() > 2*time.Second {
			got = "apart"
		}
		if !strings.Contains(got, test.want) || got != "" && test.want == "" {
			t.Errorf("%s: %q, want %q", test.what, got, test.want)
		}
	}
}

// clocks are both clocks of a node, as a test sets them.
type clocks struct{ wall, monotonic time.Duration }

func TestWallClock(t *testing.T) {
	const day = 24 * time.Hour
	var now clocks
	start := time.Unix(1_700_000_000, 0)
	c := newWallClock(func() time.Time { return start.Add(now.wall) }, func() time.Duration { return now.monotonic },
		2*time.Second, testLogger(t))
	pass := func(d time.Duration) { now.wall += d; now.monotonic += d }
	check := func(what string, want time.Duration, right bool) {
		t.Helper()
		if got := c.now().Sub(start); got != want {
			t.Errorf("%s: it is %s, want %s", what, got, want)
		}
		if err := c.trouble(); (err == nil) != right {
			t.Errorf("%s: trouble %v", what, err)
		}
	}
	agree := func(clusterTime time.Duration) { c.agree(start.Add(clusterTime).UnixNano(), now.monotonic) }
	pass(time.Hour)
	check("an hour later", time.Hour, true)
	now.wall += time.Second
	check("slewed", time.Hour+time.Second, true)
	for _, step := range []time.Duration{time.Hour, -time.Hour, 5 * day, -5 * day} {
		before := now.wall
		now.wall += step
		check("after a step", before, false)
		pass(time.Minute)
		check("a minute after a step", before+time.Minute, false)
		agree(before + time.Minute)
		check("the cluster has said so too", before+time.Minute, false)
		now.wall -= step
		check("set right", before+time.Minute, true)
	}
	now.wall += day
	agree(now.wall + time.Second)
	check("the cluster confirms the step", now.wall, true)
	agree(now.wall - day)
	check("the cluster denies it", now.wall-day, false)
}
