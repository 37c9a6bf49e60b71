package main

import (
	"encoding/json"
	"strings"
	"testing"

	"holdfast/test/admintest"
)

func TestPolicies(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	phase := "until=2h,every=15m"
	for _, step := range []struct {
		args   []string
		status int
		want   string // a piece of stdout, or of stderr where it fails
	}{
		{[]string{"policy", "set", "own"}, exitUsage, "policy own is new: say when it tries with --phase, and when it gives up with --retention"},
		{[]string{"policy", "set", "own", "--phase", phase, "--retention", "4h", "--max-attempts", "40"}, exitDone, "policy own created: 17 attempts planned in 4h\n"},
		{[]string{"policy", "set", "own", "--warn-after", "1h", "--jitter", "2.5%"}, exitDone, "policy own changed: 17 attempts planned in 4h\n"},
		{[]string{"policy", "set", "own", "--warn-after", "5h"}, exitUsage, "before the end of the retention, 4h"},
		{[]string{"policy", "set", "own", "--phase", "until=2h"}, exitUsage, "--phase: phase \"until=2h\": want until=AGE"},
		{[]string{"policy", "set", "own", "--jitter", "lots"}, exitUsage, "want something like 10%"},
		{[]string{"policy", "set", "own", "--jitter", "90%"}, exitUsage, "want 0% to 50%"},
		{[]string{"policy", "set", "month", "--retention", "4h"}, exitUsage, "ships with the program"},
		{[]string{"policy", "show", "nobody"}, exitNotFound, "no policy nobody; `holdfast policy list` shows all"},
		{[]string{"policy", "show", "own"}, exitDone, "made with      --phase 'until=2h,every=15m' --retention 4h --max-attempts 40 --warn-after 1h --jitter 2.5%\n"},
		{[]string{"domain", "set", "one.test", "--policy", "nobody"}, exitNotFound, "no policy nobody"},
		{[]string{"domain", "set", "one.test", "--policy", "own"}, exitDone, "policy own, verify off\n"},
		{[]string{"policy", "list"}, exitDone, "own             4h         17        after 1h       1\n"},
		{[]string{"policy", "remove", "own"}, exitFailed, "used by 1 domains, one.test for one: give them another one with `holdfast domain set one.test --policy NAME` first"},
		{[]string{"policy", "remove", "month"}, exitUsage, "can't be removed"},
		{[]string{"domain", "set", "one.test", "--policy", "stepped"}, exitDone, "policy stepped, verify off\n"},
		{[]string{"policy", "set", "own", "--warn-after", "0", "--max-attempts", "0"}, exitDone, "policy own changed"},
		{[]string{"policy", "show", "own"}, exitDone, "delay warning  none\n"},
		{[]string{"policy", "remove", "own"}, exitDone, "policy own removed\n"},
		{[]string{"policy", "remove", "own"}, exitNotFound, "no policy"},
	} {
		r := sh.run(t, step.args...)
		got := r.out
		if step.status != exitDone {
			got = r.err
		}
		if r.status != step.status || !strings.Contains(got, step.want) {
			t.Errorf("%v: %+v, want %d with %q", step.args, r, step.status, step.want)
		}
	}
}

func TestPolicyAsJSON(t *testing.T) {
	sh := shellFor(admintest.Start(t))
	r := sh.run(t, "policy", "show", "eleven", "--json")
	var got map[string]any
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	attempts, _ := got["attempts"].([]any)
	if len(attempts) != 11 || attempts[1] != 300.0 || got["retention"] != 345600.0 || got["maxAttempts"] != 11.0 ||
		got["warnAfter"] != nil || got["jitter"] != 0.1 || got["shipped"] != true {
		t.Errorf("got %s", r.out)
	}

	r = sh.run(t, "policy", "list", "--json")
	if n := strings.Count(r.out, "\n"); n != 5 {
		t.Errorf("%d lines: %s", n, r.out)
	}
}
