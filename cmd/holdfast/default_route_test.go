package main

import (
	"strings"
	"testing"
	"time"

	"holdfast/test/admintest"
)

// A redirection to a domain that isn't configured needs the default route, and what
// it sends there is found under it.
func TestRedirectByTheDefaultRoute(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	id := w.Accept(time.Hour, "s@x.test", "r@one.test").String()
	redirect := func(to string) result { return sh.run(t, "queue", "redirect", id, "--rcpt-new", to, "--yes") }
	wantError(t, redirect("r@far.test"), exitFailed, "domain far.test isn't configured here")
	if r := sh.run(t, "domain", "set", "*", "--destination", "two"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	wantError(t, redirect("r@[192.0.2.1]"), exitFailed, "isn't configured here")
	wantError(t, redirect("r@*"), exitUsage, "is not an address")
	if r := redirect("r@far.test"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	if r := sh.run(t, "queue", "list", "--domain", "*", "--to", "*@far.test", "--json"); !strings.Contains(r.out, id) || !strings.Contains(r.out, `"destination":"two"`) {
		t.Errorf("%+v", r)
	}
	wantError(t, sh.run(t, "domain", "remove", "*"), exitFailed, "`holdfast queue list --domain '*'` shows them")
	wantError(t, sh.run(t, "domain", "set", "*.far.test", "--destination", "two"), exitUsage, "is not a domain name")
}
