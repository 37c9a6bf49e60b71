package admin

import (
	"strings"
	"testing"
	"time"

	"holdfast/pki"
)

func TestCertificateWarnings(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	in := func(days int) time.Time { return now.Add(time.Duration(days) * 24 * time.Hour) }
	members := []Member{
		{Name: "a", Certificates: []pki.Expiry{{Use: "ca", Name: "old", NotAfter: in(10)}, {Use: "ca", Name: "new", NotAfter: in(3650)}, {Use: "node", Name: "a", NotAfter: in(31)}}},
		{Name: "b", Certificates: []pki.Expiry{{Use: "ca", Name: "old", NotAfter: in(10)}, {Use: "node", Name: "b", NotAfter: in(30)}, {Use: "smtp", Name: "mx-b.example.net", NotAfter: in(-1)}}},
		{Name: "c"},
	}
	var out warner
	warnOfCertificates(&out, now, members)
	got := out.list
	for i, want := range []string{
		"old: the CA \"old\" of the cluster ends (2026-12-07T12:00:00Z)",
		"b: the certificate of node b ends (2026-12-27T12:00:00Z)",
		"b: the certificate that node b shows to SMTP clients has ended (2026-11-26T12:00:00Z)",
	} {
		if i >= len(got) || got[i].Code != "certificate" || !strings.HasPrefix(got[i].Subject+": "+got[i].Text, want) {
			t.Errorf("warning %d of %v, want %q", i, got, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d warnings, want 3: %v", len(got), got)
	}
}
