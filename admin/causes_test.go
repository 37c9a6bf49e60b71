package admin_test

import (
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// TestCauses follows one message through what can keep it.
func TestCauses(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Minute, "s@x.test", "r@one.test")
	c := dial(t, w)
	owner := map[uint64]string{1: "a", 2: "b"}[w.Owner("one")]
	recipient := func() *pb.MessageRecipient {
		t.Helper()
		got, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id.String()})
		if err != nil {
			t.Fatal(err)
		}
		return got.Message.Recipients[0]
	}
	want := func(causes ...string) {
		t.Helper()
		if got := recipient().Causes; strings.Join(got, "\n") != strings.Join(causes, "\n") {
			t.Errorf("causes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(causes, "\n"))
		}
	}

	want("due since 2026-01-02T03:03:05Z, waiting for a slot of destination one on node " + owner + " (20 slots)")

	w.Claim(1, id, "one")
	want("attempt under way: claimed by node " + owner + " since 2026-01-02T03:04:05Z")
	if r := recipient(); r.NextAttempt != nil {
		t.Errorf("next attempt %v during an attempt", r.NextAttempt)
	}

	w.Defer(1, id, "one", 15*time.Minute)
	want("last attempt failed at 2026-01-02T03:04:05Z (mail.one.test:25: deferred at rcpt: 450 4.7.1 greylisted, come back later)",
		"next attempt at 2026-01-02T03:19:05Z")
	r := recipient()
	if r.Attempts != 1 || r.LastError.Code != 450 || r.LastError.Text != "greylisted, come back later" {
		t.Errorf("recipient %v", r)
	}
	if expires := admintest.Now.Add(-time.Minute).Add(5 * 24 * time.Hour); !r.ExpiresAt.AsTime().Equal(expires) {
		t.Errorf("expires at %v, want %v", r.ExpiresAt.AsTime(), expires)
	}

	w.BringDown("one")
	prober := map[uint64]string{1: "a", 2: "b"}[w.Owner("one")]
	want("destination one is down since 2026-01-02T03:04:05Z (mail.one.test:25: refused at connect: connection refused)",
		"next probe at 2026-01-02T03:04:10Z by node "+prober)
	r = recipient()
	if !r.NextAttempt.AsTime().Equal(admintest.Now.Add(5*time.Second)) || r.LastError.Cause != "refused" {
		t.Errorf("recipient of a destination that is down: %v", r)
	}

	if _, err := c.RetryDestination(t.Context(), &pb.RetryDestinationRequest{Name: "one"}); err != nil {
		t.Fatal(err)
	}
	want("destination one is down since 2026-01-02T03:04:05Z (mail.one.test:25: refused at connect: connection refused)",
		"next probe at 2026-01-02T03:04:05Z by node "+prober)
}
