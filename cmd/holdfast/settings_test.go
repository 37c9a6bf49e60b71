package main

import (
	"context"
	"strings"
	"testing"

	"holdfast/test/admintest"
)

func TestSettings(t *testing.T) {
	w := admintest.Start(t)
	sh := shellFor(w)
	r := sh.run(t, "settings", "show")
	compare(t, "settings_show.txt", r.out)
	r = sh.run(t, strings.Fields("settings set --log-retention 90d --max-message-size 100M --drill-consent yes --warn-oldest 0s --verify-valid 7d --verify-invalid 1h30m15s")...)
	if r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	for _, want := range []string{"log-retention     90d\n", "max-message-size  104857600 bytes\n", "drill-consent     yes\n", "warn-oldest       0s\n", "verify-valid      7d\n", "verify-invalid    1h30m15s\n", "frozen-age        30d\n"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	wantError(t, sh.run(t, "settings", "set", "--postmaster", "help@one.test"), exitFailed, "domain one.test isn't configured here")
	w.Configure()
	for given, shown := range map[string]string{"": "-", "help@ONE.test": "help@ONE.test"} {
		if r := sh.run(t, "settings", "set", "--postmaster", given); r.status != exitDone || !strings.Contains(r.out, "postmaster        "+shown+"\n") {
			t.Errorf("postmaster %q: %+v", given, r)
		}
	}
	sh.run(t, "settings", "set", "--postmaster", "help@one.test")
	compare(t, "settings_show_--json.txt", sh.run(t, "settings", "show", "--json").out)
	for line, want := range map[string]string{
		"settings set":                             "no setting is given",
		"settings set --log-retention 1h":          "log-retention: want 1d to 3650d",
		"settings set --log-retention soon":        "want something like",
		"settings set --max-message-size 10":       "max-message-size: want 65536",
		"settings set --max-message-size many":     "want bytes, or a number with K, M or G",
		"settings set --max-message-size 9999999G": "max-message-size: want",
		"settings set --postmaster me":             "postmaster: \"me\" is not a mail address with a domain",
		"settings set --drill-consent perhaps":     "want yes or no",
		"settings set --verify-valid 30s":          "verify-valid: want 1m to 90d",
		"settings set --verify-invalid 91d":        "verify-invalid: want 1m to 90d",
		"settings set --relay-networks 0.0.0.0/0":  "relay-networks: \"0.0.0.0/0\" is everybody: that is an open relay",
		"settings set --relay-networks 10.1.2.3/8": "is an address within the network 10.0.0.0/8: which of the two?",
		"settings set --relay-networks 10.1.2.3,":  "relay-networks: \"\" is neither an IP address nor a network",
	} {
		wantError(t, sh.run(t, strings.Fields(line)...), exitUsage, want)
	}
	r = sh.run(t, "settings", "set", "--relay-networks", "10.0.0.0/8, 2001:DB8::/32,192.0.2.7/32")
	if !strings.Contains(r.out, "relay-networks    10.0.0.0/8, 2001:db8::/32, 192.0.2.7\n") {
		t.Errorf("%+v", r)
	}
	if r := sh.run(t, "settings", "show", "--json"); !strings.Contains(r.out, `"relayNetworks":["10.0.0.0/8","2001:db8::/32","192.0.2.7"]`) {
		t.Errorf("%+v", r)
	}
	if r := sh.run(t, "settings", "set", "--relay-networks", ""); !strings.Contains(r.out, "relay-networks    none\n") {
		t.Errorf("%+v", r)
	}
	w.LoseQuorum(context.DeadlineExceeded)
	wantError(t, sh.run(t, "settings", "set", "--warn-pending", "5"), exitNoAnswer, "no quorum")
	if r := sh.run(t, "settings", "show"); r.status != exitDone || !strings.Contains(r.err, "stale") {
		t.Errorf("without a quorum: %+v", r)
	}
}
