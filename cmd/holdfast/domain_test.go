package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"holdfast/test/admintest"
)

func TestDomainLimitsAndSpamRules(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	set := func(args ...string) {
		t.Helper()
		if r := sh.run(t, append([]string{"domain", "set", "one.test"}, args...)...); r.status != exitDone {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	shown := func(want map[string]any) {
		t.Helper()
		r := sh.run(t, "domain", "show", "one.test", "--json")
		var got map[string]any
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		for name, value := range want {
			text, err := json.Marshal(got[name])
			if err != nil {
				t.Fatal(err)
			}
			wanted, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if string(text) != string(wanted) {
				t.Errorf("%s is %s, want %s", name, text, wanted)
			}
		}
	}
	shown(map[string]any{"spamIf": []string{}, "spamRetention": 432000, "maxMessages": nil, "maxBytes": nil, "messages": 0})
	set("--spam-if", "X-Spam-Score > 5", "--spam-if", "X-Spam-Flag=YES", "--spam-retention", "2d", "--max-messages", "5", "--max-bytes", "1000")
	set("--policy", "month")
	for range 4 {
		w.Accept(time.Hour, "s@x.test", "r@one.test", "q@one.test")
	}
	shown(map[string]any{
		"spamIf": []string{"X-Spam-Score>5", "X-Spam-Flag=YES"}, "spamRetention": 172800, "maxMessages": 5, "maxBytes": 1000,
		"messages": 4, "bytes": 4 * len(admintest.Body()), "pending": 8,
	})
	if r := sh.run(t, "status"); !strings.Contains(r.out, "warning: domain one.test is near its limit: 4 of 5 messages held\n") {
		t.Errorf("status %s", r.out)
	}
	w.Accept(time.Hour, "s@x.test", "r@one.test")
	if r := sh.run(t, "status", "--json"); !strings.Contains(r.out, `"code":"domain-full","subject":"one.test"`) {
		t.Errorf("status %s", r.out)
	}
	if r := sh.run(t, "domain", "show", "one.test"); !strings.Contains(r.out, "spam if         X-Spam-Score>5 and X-Spam-Flag=YES\n") ||
		!strings.Contains(r.out, "5 of at most 5 messages, 125 of at most 1000 bytes\n") {
		t.Errorf("shown %s", r.out)
	}
	set("--spam-if", "", "--max-messages", "0", "--max-bytes", "0")
	shown(map[string]any{"spamIf": []string{}, "spamRetention": 172800, "maxMessages": nil, "maxBytes": nil})
	if r := sh.run(t, "status"); strings.Contains(r.out, "limit") {
		t.Errorf("status %s", r.out)
	}
}
